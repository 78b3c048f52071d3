"""scikit-learn's `param_distributions` as points that can be stored and as an Optuna space."""

import math
from collections.abc import Mapping, Sequence
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
from search.sklearn.dimension import Dimension, make_dimension
from search.sklearn.fingerprint.distributions import show_value
from search.spec.space import Parameter, Space

__all__ = ["Distributions", "Point"]

PART = "param_distributions"  # Optuna's name for "which dict of the list"


@dataclass(frozen=True)
class Point:
    """One candidate: the dict of the list it comes from, and a value for each of its keys.

    For a key that was given as a list the value is an index into that list; for a distribution it
    is the value itself.
    """

    part: int
    values: Mapping[str, Any]


class Distributions:
    """`param_distributions` of RandomizedSearchCV: a dict, or a list of dicts.

    Raises:
        TypeError, ValueError: as RandomizedSearchCV raises them.
        SpecError: a list is empty.
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
            self.parts.append({key: make_dimension(key, part[key], names[key]) for key in part})

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
                        f"distribution {show_value(dimension.source)}; list its values"
                    )
                sizes.append(len(dimension.source))
            for flat in range(min(math.prod(sizes), n_iter - len(points))):
                at = np.unravel_index(flat, sizes) if sizes else ()
                points.append(Point(index, dict(zip(part, map(int, at), strict=True))))
        return points

    def suggest(self, trial: optuna.Trial, space: Space, seed: int) -> Point:
        """The sampler's proposal; `seed` serves the keys that Optuna has no distribution for."""
        suggested = space.walk(lambda name, d: _suggest(trial, name, d), {})
        part = int(suggested.get(PART, "0"))
        rng = RandomState(seed)
        values = {
            key: d.source.rvs(random_state=rng)
            if d.distribution is None
            else d.from_optuna(suggested[d.name])
            for key, d in self.parts[part].items()
        }
        return Point(part, values)

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


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
