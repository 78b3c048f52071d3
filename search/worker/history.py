"""A worker's memory of a study's finished trials; each of them is read once."""

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.outcome import is_feasible, losses
from search.worker.unsettled import Unsettled

__all__ = ["History"]

_Ranked = tuple[tuple[float, ...], int, int]  # losses, number, lineage


class History:
    """The best complete trials that keep the constraints, and which parameters were tried.

    A finished trial never changes, so a study of thousands makes one more trial no slower.

    Args:
        directions: "maximize" or "minimize" for each metric.
        kept: how many of the best trials are ranked by one metric; of two, all of the front are.
        params_of: every parameter of a trial, by which two count as equal.
    """

    def __init__(
        self,
        directions: Sequence[str],
        kept: int,
        params_of: Callable[[FrozenTrial], Mapping[str, Any]] = lambda trial: trial.params,
    ) -> None:
        self._params_of = params_of
        self._directions = directions
        self._kept = kept
        self._unsettled = Unsettled()
        self._seen: set[int] = set()
        self._best: list[_Ranked] = []
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
            if trial.state is TrialState.COMPLETE and lineage is not None and is_feasible(trial):
                complete.append((losses(trial.values, self._directions), trial.number, lineage))
        if complete:
            before = self.best
            self._best = self._ranked([*self._best, *complete])
            now = self.best
            self._fallen += [lineage for lineage in before if lineage not in now]
        return unfinished

    def _ranked(self, trials: list[_Ranked]) -> list[_Ranked]:
        if len(self._directions) == 1:
            return heapq.nsmallest(self._kept, trials)
        return [one for one in trials if not any(_betters(other, one) for other in trials)]

    @property
    def best(self) -> list[int]:
        """The lineages of the best complete trials, the best first."""
        return [lineage for _, _, lineage in self._best]

    def take_fallen(self) -> list[int]:
        """The lineages that are no longer among the best; each is returned once."""
        fallen, self._fallen = self._fallen, []
        return fallen

    def is_among_best(self, values: Sequence[float]) -> bool:
        """Whether the values of a trial would rank among the best known, ties included."""
        mine = (losses(values, self._directions), -1, -1)
        if len(self._directions) == 1:
            return len(self._best) < self._kept or mine[0] <= self._best[-1][0]
        return not any(_betters(other, mine) for other in self._best)

    def twin(
        self, trials: Sequence[FrozenTrial], params: Mapping[str, Any], number: int, lineage: int
    ) -> int | None:
        """The first trial before `number` with the same parameters and another lineage."""
        unfinished, key = self.add(trials), _key(params)
        found = [
            (other.number, other.user_attrs.get(attributes.LINEAGE))
            for other in unfinished
            if _key(self._params_of(other)) == key
        ] + self._tried.get(key, [])
        return min((n for n, of in found if n < number and of != lineage), default=None)


def _betters(one: _Ranked, other: _Ranked) -> bool:
    """Whether a trial is better in one metric, and not worse in the other."""
    return one[0] != other[0] and all(a <= b for a, b in zip(one[0], other[0], strict=True))


def _key(value: Any) -> Hashable:
    """Parameters as a key: what `[fixed]` holds may be lists and tables, and true is not 1."""
    if isinstance(value, Mapping):
        return tuple((name, _key(value[name])) for name in sorted(value))
    if isinstance(value, list):
        return tuple(map(_key, value))
    return isinstance(value, bool), value
