import math
from typing import Any

import numpy as np
import pytest
from curve_studies import spaces
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.sampling.freeze_thaw.encoding import Encoding
from search.spec.space import Parameter, Space


def distance(space: Space, a: dict[str, Any], b: dict[str, Any]) -> float:
    x, y = Encoding(space, {}).encode([a, b])
    return float(np.linalg.norm(x - y))


def space(name: str, distribution: Any) -> Space:
    return Space((Parameter(name=name, distribution=distribution),))


def test_two_choices_lie_one_apart_whichever_they_are() -> None:
    choices = space("c", CategoricalDistribution(["a", "b", True, 1]))
    assert distance(choices, {"c": "a"}, {"c": "b"}) == pytest.approx(1.0)
    assert distance(choices, {"c": "a"}, {"c": 1}) == pytest.approx(1.0)
    assert distance(choices, {"c": True}, {"c": 1}) == pytest.approx(1.0)
    assert distance(choices, {"c": True}, {"c": True}) == 0.0


def test_a_number_is_its_share_of_the_range() -> None:
    assert distance(space("n", IntDistribution(2, 10)), {"n": 4}, {"n": 8}) == pytest.approx(0.5)
    log = space("r", FloatDistribution(1e-4, 1e-2, log=True))
    assert distance(log, {"r": 1e-4}, {"r": 1e-3}) == pytest.approx(0.5)
    assert distance(space("one", IntDistribution(3, 3)), {"one": 3}, {"one": 3}) == 0.0


def test_an_absent_parameter_is_equally_far_from_each_of_its_values() -> None:
    sgd = {"optimizer": ("sgd",)}
    conditional = Space(
        (
            Parameter(name="optimizer", distribution=CategoricalDistribution(["adam", "sgd"])),
            Parameter(name="momentum", distribution=FloatDistribution(0.0, 1.0), when=sgd),
        )
    )
    absent = {"optimizer": "adam"}
    far = [
        distance(conditional, absent, {"optimizer": "sgd", "momentum": m}) for m in (0.0, 0.4, 1)
    ]
    assert far == pytest.approx([math.sqrt(2.0)] * 3)


def test_layers_share_a_length_scale_and_need_no_room_when_their_number_is_fixed() -> None:
    units = Parameter(name="units", distribution=IntDistribution(8, 64), for_each="layers")
    layers = Parameter(name="layers", distribution=IntDistribution(1, 3))
    free = Encoding(Space((layers, units)), {})
    assert free.count == 2 and free.groups.tolist() == [0] + [1] * 6
    assert Encoding(Space((units,)), {"layers": 2}).groups.tolist() == [0, 0]


@given(spaces(), st.integers(0, 2**32))
def test_samples_lie_in_the_space_and_encode_in_the_unit_cube(given: Space, seed: int) -> None:
    encoding = Encoding(given, {})
    drawn = encoding.sample(np.random.default_rng(seed), 5)
    for params in drawn:
        assert given.complete(params, {}, "sample") == params
    x = encoding.encode(drawn)
    assert x.shape == (5, encoding.size) == (5, len(encoding.groups))
    assert np.all((x >= 0.0) & (x <= 1.0))


@given(st.integers(0, 2**32))
def test_each_value_of_a_range_is_drawn(seed: int) -> None:
    few = space("n", IntDistribution(1, 4, log=True))
    drawn = Encoding(few, {}).sample(np.random.default_rng(seed), 200)
    assert {params["n"] for params in drawn} == {1, 2, 3, 4}
