"""How many points a space has, and how many kinds of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.errors import SpecError
from search.spec.space import Parameter, Space

__all__ = ["Count", "count", "count_values"]

MOST_PARTS = 100_000  # that conditions tell apart; more would take minutes and all memory
_OTHER = object()  # stands for every value that no condition names


@dataclass(frozen=True, kw_only=True)
class Count:
    """The size of a space."""

    points: int | None  # None: infinitely many
    branches: int  # sets of parameters that a trial may have


def count(space: Space, fixed: Mapping[str, Any]) -> Count:
    """Count a space without visiting its points, only what its conditions tell apart.

    Raises:
        SpecError: the conditions tell too many parts of the space apart.
    """
    deciding = {name for p in space.parameters for name in (*p.when, p.for_each)}
    # what was decided and which parameters apply -> the number of such points
    parts: dict[tuple[tuple[tuple[str, Any], ...], tuple[str, ...]], int | None] = {((), ()): 1}
    for parameter in space.parameters:
        values = count_values(parameter.distribution)
        grown: dict[tuple[tuple[tuple[str, Any], ...], tuple[str, ...]], int | None] = {}
        for (decided, names), points in parts.items():
            if len(grown) > MOST_PARTS:
                raise SpecError(
                    f"the conditions of the space tell at most {MOST_PARTS:,} parts of it apart, "
                    "got more; narrow the parameters that when and for_each name"
                )
            own = parameter.instances({**fixed, **dict(decided)})
            names = (*names, *own)
            if own == [parameter.name] and parameter.name in deciding:
                for value, number in _told_apart(parameter, space, values):
                    grown[((*decided, (parameter.name, value)), names)] = _times(points, number)
            else:
                for _ in own:
                    points = _times(points, values)
                grown[(decided, names)] = points
        parts = grown
    totals = list(parts.values())
    return Count(
        points=None if None in totals else sum(number for number in totals if number is not None),
        branches=len({names for _, names in parts}),
    )


def count_values(distribution: BaseDistribution) -> int | None:
    """The number of values of one parameter; None for infinitely many."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.low == distribution.high:
        return 1
    if distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _told_apart(
    parameter: Parameter, space: Space, values: int | None
) -> Iterator[tuple[Any, int | None]]:
    """The values that a condition names or counts with, and the number of all the others."""
    distribution = parameter.distribution
    if any(p.for_each == parameter.name for p in space.parameters):
        assert isinstance(distribution, IntDistribution)
        for number in range(distribution.low, distribution.high + 1, distribution.step):
            yield number, 1
        return
    named = {value for p in space.parameters for value in p.when.get(parameter.name, ())}
    for value in sorted(named, key=repr):
        yield value, 1
    if values is None or values > len(named):
        yield _OTHER, None if values is None else values - len(named)


def _times(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first * second
