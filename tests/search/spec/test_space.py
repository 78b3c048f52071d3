"""Declared parameters: conditions, ranges, grids, and the message for each mistake."""

import math

import optuna
import pytest

from search.errors import SpecError
from search.spec.space import Space
from search.spec.space_table import parse_space

NETWORK = {
    "family": {"choice": ["ann", "cnn"]},
    "layers": {"int": [1, 3], "when": {"family": "ann"}},
    "units": {"int": [8, 64], "log": True, "for_each": "layers"},
    "blocks": {"int": [1, 2], "when": {"family": "cnn"}},
    "rate": {"float": [1e-4, 1e-1], "log": True},
}


def space(table: dict | None = None, fixed: dict | None = None) -> Space:
    return parse_space(NETWORK if table is None else table, fixed or {}, "f.toml")


def test_only_parameters_whose_conditions_hold_are_sampled() -> None:
    asked: list[str] = []

    def choose(name, distribution):
        asked.append(name)
        return {"family": "ann", "layers": 2, "rate": 0.01}.get(name, 16)

    assert space().walk(choose, {}) == {
        "family": "ann",
        "layers": 2,
        "units_0": 16,
        "units_1": 16,
        "rate": 0.01,
    }
    assert asked == ["family", "layers", "units_0", "units_1", "rate"]


def test_a_fixed_value_decides_a_condition() -> None:
    table = {"momentum": {"float": [0, 0.9], "when": {"optimizer": ["sgd", "rmsprop"]}}}
    conditional = space(table, {"optimizer": "adam"})
    assert conditional.walk(lambda *_: 0.5, {"optimizer": "adam"}) == {}
    assert conditional.walk(lambda *_: 0.5, {"optimizer": "sgd"}) == {"momentum": 0.5}


def test_sampling_with_optuna_stays_within_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    declared = space()
    for _ in range(100):
        trial = study.ask()
        params = declared.walk(lambda name, d, t=trial: t._suggest(name, d), {})
        assert declared.complete(params, {}, "sampled") == params
        assert params == trial.params


def test_probes_touch_every_end_and_every_choice() -> None:
    points = list(space().probes({}))
    for name, ends in {
        "family": {"ann", "cnn"},
        "layers": {1, 3},
        "units_2": {8, 64},
        "blocks": {1, 2},
        "rate": {1e-4, 1e-1},
    }.items():
        assert {point[name] for point in points if name in point} == ends
    for point in points:
        assert space().complete(point, {}, "probe") == point


def test_probes_reach_what_depends_on_a_parent_that_depends_on_the_same() -> None:
    table = {
        "kind": {"choice": ["a", "b"]},
        "kernel": {"choice": ["linear", "rbf"], "when": {"kind": "b"}},
        "gamma": {"float": [0.5, 2.0], "when": {"kind": ["a", "b"], "kernel": "rbf"}},
    }
    points = list(space(table).probes({}))
    assert {point["gamma"] for point in points if "gamma" in point} == {0.5, 2.0}


def test_a_fixed_value_under_a_sampled_name_is_refused() -> None:
    table = {"n": {"int": [1, 2]}, "u": {"int": [1, 4], "for_each": "n"}}
    with pytest.raises(SpecError, match="u_1 is a name under which u is sampled, for each n"):
        space(table, {"u_1": 3})


def test_a_grid_has_every_point_once_and_respects_conditions() -> None:
    table = {
        "a": {"choice": ["x", "y"]},
        "n": {"int": [1, 2], "when": {"a": "x"}},
        "u": {"choice": [0, 1], "for_each": "n"},
        "f": {"float": [0.0, 1.0], "step": 0.5},
    }
    points = space(table).grid({})
    # a = x: n = 1 gives 2 points, n = 2 gives 4; a = y gives 1; times the 3 values of f
    assert len(points) == 7 * 3
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    for point in points:
        assert space(table).complete(point, {}, "grid") == point


@pytest.mark.parametrize(("low", "high", "step"), [(0.1, 0.3, 0.1), (0.1, 0.7, 0.1), (0, 0.9, 0.3)])
def test_no_point_of_a_grid_is_rounded_to_beyond_the_range(low, high, step) -> None:
    declared = space({"x": {"float": [low, high], "step": step}})
    points = [point["x"] for point in declared.grid({})]
    assert points[-1] <= high
    assert points == pytest.approx([low + i * step for i in range(len(points))])


def test_a_grid_needs_steps() -> None:
    with pytest.raises(SpecError, match=r"space\.rate is a float without a step; add step"):
        space().grid({})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": {"float": [0.5, 0.1]}}, r"space\.a: need low <= high, got low=0\.5, high=0\.1"),
        ({"a": {"float": [0.0, 1.0], "log": True}}, r"log = true needs low > 0, got low=0\.0"),
        ({"a": {"float": [-1e308, 1e308]}}, r"high - low must be a number that a float can hold"),
        ({"a": {"float": [1e-300, 1e300], "log": True}}, r"high / low must be a number that a"),
        ({"a": {"int": [1, 2.5]}}, r"int must be \[low, high\], two ints, got \[1, 2\.5\]"),
        ({"a": {"int": [1, 9], "step": 0}}, "step must be a positive int, got 0"),
        ({"a": {"int": [1, 9], "step": 2, "log": True}}, "log and step exclude each other"),
        ({"a": {"choice": []}}, r"at least one value, got \[\]"),
        ({"a": {"choice": [1, 1]}}, "lists a value twice"),
        ({"a": {"choice": [1, True]}}, r"lists a value twice, got \[1, True\]; remove one"),
        ({"a": {"choice": [1, 1.0]}}, "lists a value twice"),
        ({"a": {"choice": [1, math.nan]}}, "a choice is a finite number, got nan"),
        ({"a": {"int": [0, 2**53 + 1]}}, r"exact from -2\*\*53 to 2\*\*53, got \[0, 9007199"),
        ({"a": {"int": [1, 10], "step": 2}}, r"got \[1, 10\] by 2; write \[1, 9\]"),
        ({"a": {"float": [0, 1], "step": 0.3}}, r"got \[0, 1\] by 0\.3; write \[0\.0, 0\.9\]"),
        (
            {"n": {"int": [1, 2]}, "u": {"int": [1, 4], "for_each": "n"}, "u_0": {"int": [5, 9]}},
            "u_0 is a name under which u is sampled, for each n; rename one of them",
        ),
        (
            {"n": {"int": [1, 2]}, "u_7": {"int": [5, 9]}, "u": {"int": [1, 4], "for_each": "n"}},
            "u_7 is a name under which u is sampled, for each n; rename one of them",
        ),
        ({"a": {"choice": [[1]]}}, r"a choice is a string, a number, true or false, got \[1\]"),
        ({"a": 3}, r"must be a table such as .*, got 3; a value that is not searched"),
        ({"a": {"flaot": [0, 1]}}, "needs exactly one of int, float, choice"),
        ({"a": {"float": [0, 1], "lgo": True}}, "no key 'lgo'; did you mean 'log'"),
        ({"a": {"float": [0, 1], "when": {"b": 1}}}, "names 'b', which is not declared before"),
        (
            {"opt": {"choice": ["sgd"]}, "a": {"float": [0, 1], "when": {"opt": "adam"}}},
            "when opt = 'adam' can never hold; one of 'sgd'",
        ),
        (
            {"opt": {"choice": ["sgd"]}, "a": {"float": [0, 1], "when": {"opt": []}}},
            r"when opt = \[\] can never hold; list a value",
        ),
        (
            {
                "n": {"int": [1, 3]},
                "c": {"choice": [8, 16], "for_each": "n"},
                "a": {"float": [0, 1], "when": {"c": 8}},
            },
            r"space\.a: when names 'c', which is sampled for each n .*; name a parameter that",
        ),
        ({"a": {"float": [0.0, math.inf]}}, r"two finite numbers, got \[0\.0, inf\]"),
        ({"a": {"float": [math.nan, 1.0]}}, r"two finite numbers, got \[nan, 1\.0\]"),
        ({"a": {"float": [0, 10**400]}}, "two finite numbers, got "),
        (
            {"a": {"float": [0, 1], "step": 1e-320}},
            r"at most 2\*\*53 steps, got \[0, 1\] by 1e-320",
        ),
        ({"a": {"float": [0, 10**308], "step": 1}}, r"at most 2\*\*53 steps"),
        ({"a": {"float": [0, 1], "step": math.nan}}, "step must be a positive float, got nan"),
        ({"a": {"float": [0, 1], "step": math.inf}}, "step must be a positive float, got inf"),
        (
            {"n": {"float": [0, 1]}, "a": {"int": [0, 1], "for_each": "n"}},
            "for_each needs an integer parameter, and n is none",
        ),
    ],
)
def test_a_mistake_is_one_line(table: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        space(table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"family": "cnn", "rate": 0.01}, "blocks has no value; give one, from 1 to 2"),
        (
            {"family": "cnn", "block": 1, "rate": 0.01},
            "blocks has no value, and block, which has one, is not in the space; give both",
        ),
        ({"family": "cnn", "blocks": 3, "rate": 0.01}, "blocks = 3 lies outside the space"),
        ({"family": "cnn", "blocks": True, "rate": 0.01}, "blocks = True lies outside"),
        (
            {"family": "cnn", "blocks": 1, "layers": 1, "rate": 0.01},
            "layers does not apply here; it applies only when family is 'ann'",
        ),
        (
            {"family": "ann", "layers": 1, "units_0": 8, "units_1": 8, "rate": 0.01},
            "units_1 does not apply here; it applies only when its index is below layers",
        ),
    ],
)
def test_a_named_trial_must_be_a_point_of_the_space(params: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        space().complete(params, {}, "trial")


def test_a_named_trial_may_leave_out_what_has_one_value() -> None:
    one = space({
        "family": {"choice": ["ann", "cnn"]},
        "head": {"choice": ["average"], "when": {"family": "cnn"}},
        "blocks": {"int": [2, 2], "when": {"family": "cnn"}},
        "channels": {"int": [8, 16], "for_each": "blocks"},
        "rate": {"float": [0.5, 0.5]},
        "gelu": {"choice": [True], "when": {"family": "ann"}},
    })  # fmt: skip
    given = {"family": "cnn", "channels_0": 8, "channels_1": 16}
    whole = given | {"head": "average", "blocks": 2, "rate": 0.5}
    assert one.complete(given, {}, "trial") == one.complete(whole, {}, "trial") == whole
    with pytest.raises(SpecError, match="trial: channels_1 has no value"):
        one.complete({"family": "cnn", "channels_0": 8}, {}, "trial")
    with pytest.raises(SpecError, match="head has no value, and heads, which has one, is not"):
        one.complete(given | {"heads": "average"}, {}, "trial")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"n": {"int": [1, 2 * 10**9]}, "x": {"float": [0, 1], "for_each": "n"}},
            "for_each counts from 0 to 1,000 at most, got n from 1 to 2,000,000,000; narrow n",
        ),
        (
            {"n": {"int": [-1, 2]}, "x": {"float": [0, 1], "for_each": "n"}},
            "for_each counts from 0 to 1,000 at most, got n from -1 to 2",
        ),
        (
            {"n": {"int": [1, 600]}}
            | {name: {"float": [0, 1], "for_each": "n"} for name in ("x", "y")},
            "a trial has at most 1,000 parameters, got up to 1,201 with for_each",
        ),
        ({f"x{i}": {"int": [0, 1]} for i in range(1001)}, "at most 1,000 parameters, got 1,001"),
        ({"x": {"choice": list(range(1001))}}, "choice lists at most 1,000 values, got 1,001"),
        ({"x\0": {"int": [0, 1]}}, "a parameter's name is 1 to 200 printable characters"),
        ({"x" * 201: {"int": [0, 1]}}, "a parameter's name is 1 to 200 printable characters"),
        ({"": {"int": [0, 1]}}, "a parameter's name is 1 to 200 printable characters"),
    ],
)
def test_a_space_is_bounded(table, message):
    with pytest.raises(SpecError, match=message):
        space(table)


def test_a_fixed_number_to_count_with_is_bounded():
    table = {"x": {"float": [0, 1], "for_each": "n"}}
    with pytest.raises(SpecError, match="got n from 1,000,000,000 to 1,000,000,000"):
        space(table, {"n": 10**9})
    assert len(space(table, {"n": 1000}).walk(lambda *_: 0.5, {"n": 1000})) == 1000
