"""Parameters as vectors whose distances a stationary kernel can use."""

import math
from collections.abc import Mapping, Sequence
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

__all__ = ["Encoding", "completed"]

Vector = NDArray[np.float64]


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

    def encode(self, params: Sequence[Mapping[str, Any]]) -> Vector:
        """The vectors of n configurations, (n, d). Names outside the space are ignored."""
        x = np.zeros((len(params), self.size))
        for slot in self._slots:
            rows = [row for row, known in enumerate(params) if slot.name in known]
            if not rows:
                continue
            values = [params[row][slot.name] for row in rows]
            if isinstance(slot.distribution, CategoricalDistribution):
                for i, choice in enumerate(slot.distribution.choices):
                    equal = [type(choice) is type(value) and choice == value for value in values]
                    x[rows, slot.start + i] = np.where(equal, math.sqrt(0.5), 0.0)
                continue
            u = position(slot.distribution, np.array(values, dtype=float))
            if slot.conditional:
                x[rows, slot.start] = np.cos(np.pi / 2 * u)
                x[rows, slot.start + 1] = np.sin(np.pi / 2 * u)
            else:
                x[rows, slot.start] = u
        return x

    def sample(self, rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
        """n configurations of the space, drawn at random."""
        u = rng.random((n, len(self._slots)))
        columns = {
            slot.name: at_positions(slot.distribution, u[:, i])
            for i, slot in enumerate(self._slots)
        }
        if not self._space.conditional:
            rows = zip(*columns.values(), strict=True)
            return [dict(zip(columns, row, strict=True)) for row in rows] if columns else [{}] * n

        def at(row: int) -> dict[str, Any]:
            return self._space.walk(lambda name, _: columns[name][row], self._fixed)

        return [at(row) for row in range(n)]


def completed(
    space: Space, fixed: Mapping[str, Any], params: Mapping[str, Any], *, seed: int
) -> dict[str, Any]:
    """A configuration with these parameters; the others of the space are drawn at random."""
    rng = np.random.default_rng(seed)

    def choose(name: str, distribution: BaseDistribution) -> Any:
        return params[name] if name in params else at_positions(distribution, rng.random(1))[0]

    return {**params, **space.walk(choose, {**fixed, **params})}


def position(distribution: BaseDistribution, values: Vector) -> Vector:
    """Where numbers lie in their range, from 0 to 1; on a log scale where it has one."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if high <= low:
        return np.zeros_like(values)
    values = np.clip(values, low, high)
    if distribution.log:
        u: Vector = np.log(values / low) / math.log(high / low)
        return u
    return (values - low) / (high - low)


def at_positions(distribution: BaseDistribution, u: Vector) -> list[Any]:
    """The values at positions 0 <= u < 1; each value of a finite range is equally likely."""
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.choices[i] for i in (u * len(distribution.choices)).astype(int)]
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if distribution.log:
            start, end = math.log(low - 0.5), math.log(high + 0.5)
            drawn = np.clip(np.rint(np.exp(start + u * (end - start))), low, high)
        else:
            drawn = low + step * np.floor(u * ((high - low) // step + 1))
        whole: list[Any] = drawn.astype(int).tolist()
        return whole
    assert isinstance(distribution, FloatDistribution)
    first, last = distribution.low, distribution.high
    if distribution.step is not None:
        count = round((last - first) / distribution.step) + 1
        values = first + distribution.step * np.floor(u * count)
    elif distribution.log:
        values = first * (last / first) ** u
    else:
        values = first + u * (last - first)
    found: list[Any] = np.clip(values, first, last).tolist()
    return found


def _values_of(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return sorted(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
