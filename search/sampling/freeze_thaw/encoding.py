"""Parameters as vectors whose distances a stationary kernel can use."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.spec.space import Parameter, Space

__all__ = ["Encoding"]

Vector = NDArray[np.float64]
BELOW_ONE = 1.0 - 2.0**-53  # the largest float below 1


@dataclass(frozen=True)
class _Slot:
    """The coordinates of one name that a trial may have."""

    name: str
    distribution: BaseDistribution
    conditional: bool
    start: int

    @property
    def width(self) -> int:
        if isinstance(self.distribution, CategoricalDistribution):
            return len(self.distribution.choices)
        return 2 if self.conditional else 1


class Encoding:
    """Maps the parameters of a trial to a vector, and draws parameters at random.

    - A number becomes its position in its range, from 0 to 1; on a log scale where it has one.
    - A choice becomes one coordinate for each value. Two different values lie 1 apart (the
      Hamming distance), whatever they are.
    - A parameter that may be absent (`when`, `for_each`) is a point on a quarter circle, and the
      centre of the circle where it is absent. So an absent value is equally far from every value,
      and two absent ones coincide. Source: Swersky et al., "Raiders of the lost architecture",
      arXiv 1409.4011.
    - The instances of a parameter with `for_each` share one length scale.

    Attributes:
        size: d, the number of coordinates.
        groups: (d,), for each coordinate the number of the parameter it belongs to.
        count: g, the number of parameters.
    """

    def __init__(self, space: Space, fixed: Mapping[str, Any]) -> None:
        self._space, self._fixed = space, fixed
        self._slots: list[_Slot] = []
        groups: list[int] = []
        for group, parameter in enumerate(space.parameters):
            conditional = bool(parameter.when) or (
                parameter.for_each is not None and parameter.for_each not in fixed
            )
            for name in self._names(parameter):
                slot = _Slot(name, parameter.distribution, conditional, len(groups))
                self._slots.append(slot)
                groups += [group] * slot.width
        self.groups = np.array(groups, dtype=np.intp)
        self.size = len(groups)
        self.count = len(space.parameters)

    def _names(self, parameter: Parameter) -> list[str]:
        """Every name under which a parameter may be sampled."""
        if parameter.for_each is None:
            return [parameter.name]
        owner = self._space.owner(parameter.for_each)
        most = self._fixed.get(parameter.for_each, 0)
        if owner is not None:
            most = _values_of(owner.distribution)[-1]
        return [f"{parameter.name}_{i}" for i in range(int(most))]

    def encode(self, params: Mapping[str, Any]) -> Vector:
        """The vector of some parameters, (d,). Names outside the space are ignored."""
        x = np.zeros(self.size)
        for slot in self._slots:
            if slot.name not in params:
                continue
            value = params[slot.name]
            if isinstance(slot.distribution, CategoricalDistribution):
                for i, choice in enumerate(slot.distribution.choices):
                    if type(choice) is type(value) and choice == value:
                        x[slot.start + i] = math.sqrt(0.5)
            elif slot.conditional:
                angle = math.pi / 2 * position(slot.distribution, value)
                x[slot.start], x[slot.start + 1] = math.cos(angle), math.sin(angle)
            else:
                x[slot.start] = position(slot.distribution, value)
        return x

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Parameters of the space, drawn at random."""
        return self._space.walk(lambda _, d: at_position(d, rng.random()), self._fixed)

    def near(self, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Parameters close to given ones: about a third are changed, numbers by a small amount."""

        def choose(name: str, distribution: BaseDistribution) -> Any:
            keep, u, step = rng.random(), rng.random(), rng.normal(0.0, NEAR)
            if name not in params:
                return at_position(distribution, u)
            if keep > CHANGED:
                return params[name]
            if isinstance(distribution, CategoricalDistribution):
                return at_position(distribution, u)
            moved = position(distribution, params[name]) + step
            return at_position(distribution, min(max(moved, 0.0), BELOW_ONE))

        return self._space.walk(choose, self._fixed)


NEAR = 0.2  # standard deviation of a change, as a share of the range
CHANGED = 0.4  # share of the parameters that are changed


def position(distribution: BaseDistribution, value: float) -> float:
    """Where a number lies in its range, from 0 to 1; on a log scale where it has one."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if high <= low:
        return 0.0
    value = min(max(float(value), low), high)
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def at_position(distribution: BaseDistribution, u: float) -> Any:
    """The value at a position u, 0 <= u < 1; each value of a finite range is equally likely."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if distribution.log:
            start, end = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(start + u * (end - start))), low), high)
        return low + step * int(u * ((high - low) // step + 1))
    assert isinstance(distribution, FloatDistribution)
    start, end = distribution.low, distribution.high
    if distribution.step is not None:
        return min(
            start + distribution.step * int(u * (round((end - start) / distribution.step) + 1)), end
        )
    if distribution.log:
        return min(max(start * (end / start) ** u, start), end)
    return start + u * (end - start)


def _values_of(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return sorted(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
