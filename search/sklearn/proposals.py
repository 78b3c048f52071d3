"""The points of a search: drawn together, or proposed one by one by a sampler."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from search.sampling.make import make_sampler
from search.sklearn.distributions import Distributions, Point

__all__ = ["Draws", "Proposals"]


class Draws:
    """Points that do not depend on results: all are drawn when the first one is asked for."""

    def __init__(self, draw: Callable[[], Sequence[Point]]) -> None:
        self._draw = draw

    @cached_property
    def points(self) -> Sequence[Point]:
        """One point per candidate."""
        return self._draw()


class Proposals:
    """What a sampler of the service proposes for `param_distributions`.

    Each candidate has a sampler with a seed of its own, so that the proposals do not depend on
    which process makes them, and a search that goes on does not repeat its first random draws.
    """

    def __init__(
        self, distributions: Distributions, sampler: str, options: Mapping[str, Any], seed: int
    ) -> None:
        self._distributions, self._space = distributions, distributions.space()
        self._name, self._options, self._seed = sampler, options, seed

    def sampler(self, index: int) -> BaseSampler:
        """The sampler of one candidate."""
        # A quasi-random sequence is one only when all its points come from one seed.
        seed = self._seed if self._name == "qmc" else self._seed_of(index)
        conditional = self._space.conditional
        return make_sampler(self._name, self._options, seed=seed, conditional=conditional)

    def point(self, trial: optuna.Trial, index: int) -> Point:
        """Have the trial's study propose a point."""
        return self._distributions.suggest(trial, self._space, self._seed_of(index))

    def _seed_of(self, index: int) -> int:
        return int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0])
