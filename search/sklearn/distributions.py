"""scikit-learn's `param_distributions` as points that can be stored and as an Optuna space."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.random import RandomState
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from sklearn.model_selection import ParameterSampler

from search.errors import SpecError
from search.spec.space import Parameter, Space

__all__ = ["Dimension", "Distributions", "Point"]

#: Quantiles this far from 0 and 1 are left out: an unbounded distribution ends there at infinity.
QUANTILE_MARGIN = 1e-6
LABEL_LENGTH = 60  # characters of an object's repr that are shown as its label
PART = "param_distributions"  # Optuna's name for "which dict of the list"


@dataclass(frozen=True)
class Point:
    """One candidate: the dict of the list it comes from, and a value for each of its keys.

    For a key that was given as a list the value is an index into that list; for a distribution it
    is the value itself.
    """

    part: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One key of one dict of `param_distributions`.

    `distribution` is None for an object of which nothing is known but its `rvs`: it is then drawn
    from, and the sampler is not told.
    """

    key: str
    source: Any
    name: str
    distribution: BaseDistribution | None
    quantile: bool = False

    @property
    def is_list(self) -> bool:
        return not hasattr(self.source, "rvs")

    def to_optuna(self, value: Any) -> Any:
        """The value of a `Point` as the value of the Optuna parameter."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[value]
        if self.quantile:
            # Half way up the step of a discrete distribution; no step in a continuous one.
            below = self.source.cdf(value - 1) if _is_discrete(self.source) else None
            at = self.source.cdf(value)
            middle = float(at if below is None else (at + below) / 2)
            return min(max(middle, QUANTILE_MARGIN), 1 - QUANTILE_MARGIN)
        return int(value) if isinstance(self.distribution, IntDistribution) else float(value)

    def from_optuna(self, value: Any) -> Any:
        """The value of the Optuna parameter as the value of a `Point`."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices.index(value)
        if self.quantile:
            found = self.source.ppf(value)
            return int(found) if _is_discrete(self.source) else float(found)
        return value


class Distributions:
    """`param_distributions` of RandomizedSearchCV: a dict, or a list of dicts.

    Raises:
        TypeError, ValueError: as RandomizedSearchCV raises them.
    """

    def __init__(self, param_distributions: Any) -> None:
        ParameterSampler(param_distributions, 1)  # raises what RandomizedSearchCV raises
        parts = (
            [param_distributions]
            if isinstance(param_distributions, Mapping)
            else list(param_distributions)
        )
        owners: dict[str, int] = {}
        for part in parts:
            for key in part:
                owners[key] = owners.get(key, 0) + 1
        self.parts: list[dict[str, Dimension]] = []
        for index, part in enumerate(parts):
            # Optuna wants one distribution per name; the same key of two dicts may have two.
            names = {key: key if owners[key] == 1 else f"{key} [{index}]" for key in sorted(part)}
            self.parts.append({key: _dimension(key, part[key], names[key]) for key in part})

    @property
    def size(self) -> float:
        """The number of points; infinite as soon as one key is given as a distribution."""
        return sum(
            math.prod(len(d.source) if d.is_list else math.inf for d in part.values())
            for part in self.parts
        )

    def space(self) -> Space:
        """The Optuna parameters; those of one dict among several apply when it is chosen."""
        parameters = []
        several = len(self.parts) > 1
        if several:
            choice = CategoricalDistribution([str(i) for i in range(len(self.parts))])
            parameters.append(Parameter(name=PART, distribution=choice))
        for index, part in enumerate(self.parts):
            parameters += [
                Parameter(
                    name=dimension.name,
                    distribution=dimension.distribution,
                    when={PART: (str(index),)} if several else {},
                )
                for dimension in part.values()
                if dimension.distribution is not None
            ]
        return Space(tuple(parameters))

    def draw(self, n_iter: int, random_state: Any) -> list[Point]:
        """The candidates that RandomizedSearchCV draws, in its order.

        ParameterSampler itself draws them, from stand-ins that remember where a value came from.
        """
        marked = [
            {key: _List(i, d.source) if d.is_list else _Rvs(i, d.source) for key, d in part.items()}
            for i, part in enumerate(self.parts)
        ]
        drawn = ParameterSampler(marked, n_iter, random_state=random_state)
        return [self._unmarked(values) for values in drawn]

    def grid(self, n_iter: int) -> list[Point]:
        """The first points of the grid over lists, dict after dict, last key varying fastest.

        Raises:
            SpecError: a key is given as a distribution.
        """
        points: list[Point] = []
        for index, part in enumerate(self.parts):
            sizes = []
            for key, dimension in part.items():
                if not dimension.is_list:
                    raise SpecError(
                        f"the grid sampler needs finitely many values, and {key} is the "
                        f"distribution {dimension.source!r}; list its values"
                    )
                sizes.append(len(dimension.source))
            for flat in range(min(math.prod(sizes), n_iter - len(points))):
                at = np.unravel_index(flat, sizes) if sizes else ()
                points.append(Point(index, dict(zip(part, map(int, at), strict=True))))
        return points

    def suggest(self, trial: optuna.Trial, space: Space, seed: int) -> Point:
        """The sampler's proposal; `seed` serves the keys that Optuna has no distribution for."""
        return self.recall(space.walk(lambda name, d: _suggest(trial, name, d), {}), seed)

    def recall(self, suggested: Mapping[str, Any], seed: int) -> Point:
        """The point of a trial with these Optuna parameters, proposed with this seed."""
        index = int(suggested.get(PART, "0"))
        rng = RandomState(seed)
        return Point(
            index,
            {
                key: d.source.rvs(random_state=rng)
                if d.distribution is None
                else d.from_optuna(suggested[d.name])
                for key, d in self.parts[index].items()
            },
        )

    def show(self, storage: BaseStorage, trial_id: int, point: Point) -> None:
        """Give a trial the parameters of a point that no sampler proposed."""
        params = {PART: str(point.part)} if len(self.parts) > 1 else {}
        for key, value in point.values.items():
            dimension = self.parts[point.part][key]
            if dimension.distribution is not None:
                params[dimension.name] = dimension.to_optuna(value)
        for parameter in self.space().parameters:
            if parameter.name in params:
                internal = parameter.distribution.to_internal_repr(params[parameter.name])
                storage.set_trial_param(trial_id, parameter.name, internal, parameter.distribution)

    def params(self, point: Point) -> dict[str, Any]:
        """The candidate as scikit-learn has it, for `set_params` and `cv_results_`."""
        part = self.parts[point.part]
        return {
            key: part[key].source[value] if part[key].is_list else value
            for key, value in point.values.items()
        }

    def _unmarked(self, values: Mapping[str, Any]) -> Point:
        if not values:
            return Point(next(i for i, part in enumerate(self.parts) if not part), {})
        part = next(iter(values.values())).part
        return Point(part, {key: drawn.value for key, drawn in values.items()})


@dataclass(frozen=True)
class _Drawn:
    part: int
    value: Any


class _List(Sequence[_Drawn]):
    """Stands for a list of values: as long as it, and each element knows its index."""

    def __init__(self, part: int, source: Any) -> None:
        self._part, self._length = part, len(source)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._length:
            raise IndexError(index)
        return _Drawn(self._part, int(index))


class _Rvs:
    """Stands for a distribution: draws the same values from the same generator."""

    def __init__(self, part: int, source: Any) -> None:
        self._part, self._source = part, source

    def rvs(self, random_state: Any) -> _Drawn:
        return _Drawn(self._part, self._source.rvs(random_state=random_state))


def _dimension(key: str, source: Any, name: str) -> Dimension:
    if not hasattr(source, "rvs"):
        return Dimension(key, source, name, CategoricalDistribution(_labels(source)))
    family = getattr(getattr(source, "dist", None), "name", "")
    if not (family and hasattr(source, "ppf") and hasattr(source, "support")):
        return Dimension(key, source, name, None)
    low, high = source.support()
    if math.isnan(low):  # as of `uniform(1, 0)`, whose one value is 1
        return Dimension(key, source, name, None)
    if family == "uniform":
        return Dimension(key, source, name, FloatDistribution(float(low), float(high)))
    if family == "randint":
        return Dimension(key, source, name, IntDistribution(int(low), int(high)))
    if family in ("loguniform", "reciprocal") and math.isclose(
        source.median(), math.sqrt(low * high)
    ):  # a shifted one is no log-uniform distribution any more
        return Dimension(key, source, name, FloatDistribution(float(low), float(high), log=True))
    # Any other is searched over its quantiles, so that the sampler starts from its shape.
    unit = FloatDistribution(QUANTILE_MARGIN, 1 - QUANTILE_MARGIN)
    return Dimension(key, source, f"{name} (quantile)", unit, quantile=True)


def _labels(values: Iterable[Any]) -> list[Any]:
    """The values where Optuna can store them and tell them apart, else a numbered text."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    storable = all(
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
        for value in plain
    )
    if storable and len(set(plain)) == len(plain):
        return plain
    return [f"{i}: {' '.join(repr(value).split())[:LABEL_LENGTH]}" for i, value in enumerate(plain)]


def _is_discrete(source: Any) -> bool:
    return hasattr(source, "pmf")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
