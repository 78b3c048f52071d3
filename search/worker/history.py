"""A worker's memory of a study's finished trials; each of them is read once."""

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.worker.unsettled import Unsettled

__all__ = ["History"]


class History:
    """The best complete trials, and which parameters were tried.

    A finished trial never changes, so a study of thousands makes one more trial no slower.

    Args:
        direction: "maximize" or "minimize".
        kept: how many of the best trials are ranked.
        params_of: every parameter of a trial, by which two count as equal.
    """

    def __init__(
        self,
        direction: str,
        kept: int,
        params_of: Callable[[FrozenTrial], Mapping[str, Any]] = lambda trial: trial.params,
    ) -> None:
        self._params_of = params_of
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._kept = kept
        self._unsettled = Unsettled()
        self._seen: set[int] = set()
        self._best: list[tuple[float, int, int]] = []  # signed value, number, lineage
        self._fallen: list[int] = []
        self._tried: dict[Hashable, list[tuple[int, int | None]]] = {}  # number, lineage

    def add(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Add the trials that have finished since the last call; returns the unfinished ones."""
        unfinished = []
        complete = []
        for trial in self._unsettled.of(trials):
            if trial.number in self._seen:
                continue
            if not trial.state.is_finished():
                unfinished.append(trial)
                continue
            self._seen.add(trial.number)
            lineage = trial.user_attrs.get(
                attributes.LINEAGE
            )  # another program may add trials without
            self._tried.setdefault(_key(self._params_of(trial)), []).append((trial.number, lineage))
            if trial.state is TrialState.COMPLETE and lineage is not None:
                complete.append((self._sign * trial.values[0], trial.number, lineage))
        if complete:
            before = self.best
            self._best = heapq.nsmallest(self._kept, [*self._best, *complete])
            now = self.best
            self._fallen += [lineage for lineage in before if lineage not in now]
        return unfinished

    @property
    def best(self) -> list[int]:
        """The lineages of the best complete trials, the best first."""
        return [lineage for _, _, lineage in self._best]

    def take_fallen(self) -> list[int]:
        """The lineages that are no longer among the best; each is returned once."""
        fallen, self._fallen = self._fallen, []
        return fallen

    def is_among_best(self, value: float) -> bool:
        """Whether a value would rank among the `kept` best known, ties included."""
        return len(self._best) < self._kept or self._sign * value <= self._best[-1][0]

    def twin(
        self, trials: Sequence[FrozenTrial], params: Mapping[str, Any], number: int, lineage: int
    ) -> int | None:
        """The first trial before `number` with the same parameters and another lineage."""
        unfinished = self.add(trials)
        found = [
            (other.number, other.user_attrs.get(attributes.LINEAGE))
            for other in unfinished
            if self._params_of(other) == params
        ] + self._tried.get(_key(params), [])
        return min((n for n, of in found if n < number and of != lineage), default=None)


def _key(params: Mapping[str, Any]) -> Hashable:
    return tuple(sorted(params.items()))
