"""The size of a space, against all of its points listed."""

import pytest

from search.errors import SpecError
from search.spec.size import count, count_values
from search.spec.space import Space
from search.spec.space_table import parse_space

FINITE = {
    "none": {},
    "plain": {"a": {"int": [1, 4]}, "b": {"choice": ["x", "y"]}, "c": {"int": [3, 3]}},
    "steps": {"a": {"int": [0, 10], "step": 5}, "b": {"float": [0.0, 1.0], "step": 0.25}},
    "per layer": {"layers": {"int": [0, 3]}, "units": {"choice": [1, 2, 3], "for_each": "layers"}},
    "conditional": {
        "kind": {"choice": ["svm", "tree", "other"]},
        "c": {"int": [1, 5], "when": {"kind": "svm"}},
        "kernel": {"choice": ["linear", "rbf"], "when": {"kind": "svm"}},
        "gamma": {"int": [1, 7], "when": {"kind": "svm", "kernel": "rbf"}},
        "depth": {"int": [1, 9], "when": {"kind": ["tree", "other"]}},
    },
    "both": {
        "kind": {"choice": ["a", "b"]},
        "layers": {"int": [1, 3], "when": {"kind": "a"}},
        "units": {"choice": [1, 2], "for_each": "layers"},
        "depth": {"int": [1, 50]},
        "extra": {"choice": [True, False], "when": {"depth": [7, 9]}},
    },
}


def spaces() -> list[Space]:
    return [parse_space(table, {}, "here") for table in FINITE.values()]


@pytest.mark.parametrize("space", spaces(), ids=FINITE)
def test_a_finite_space_has_as_many_points_as_its_grid(space: Space) -> None:
    grid = space.grid({})
    counted = count(space, {})
    assert counted.points == len(grid)
    assert counted.branches == len({tuple(point) for point in grid})


def test_a_float_without_a_step_makes_it_continuous() -> None:
    table = {"a": {"choice": ["x", "y"]}, "b": {"float": [0.0, 1.0], "when": {"a": "x"}}}
    space = parse_space(table, {}, "here")
    assert (count(space, {}).points, count(space, {}).branches) == (None, 2)
    assert [count_values(p.distribution) for p in space.parameters] == [2, None]
    with pytest.raises(SpecError):
        space.grid({})


def test_fixed_values_decide_conditions() -> None:
    table = {"b": {"int": [1, 5], "when": {"a": "x"}}, "c": {"int": [1, 2], "for_each": "n"}}
    for kind, points in (("x", 5 * 8), ("y", 8)):
        fixed = {"a": kind, "n": 3}
        assert count(parse_space(table, fixed, "here"), fixed).points == points


def test_a_wide_range_is_not_walked_through() -> None:
    table = {
        "a": {"int": [0, 10**12]},
        "b": {"int": [0, 10**12], "when": {"a": [0, 5]}},
    }
    counted = count(parse_space(table, {}, "here"), {})
    assert counted.points == 2 * (10**12 + 1) + 10**12 + 1 - 2
    assert counted.branches == 2


def test_more_parts_than_fit_into_memory_are_refused_at_once():
    table = {f"n{i}": {"int": [0, 80]} for i in range(4)}
    table |= {f"u{i}": {"int": [1, 2], "for_each": f"n{i}"} for i in range(4)}
    with pytest.raises(SpecError, match="at most 100,000 parts of it apart"):
        count(parse_space(table, {}, "here"), {})
