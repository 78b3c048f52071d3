"""What a worker keeps in mind of a study's finished trials; it looks at each of them once."""

import heapq
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

__all__ = ["History"]


class History:
    """The best complete trials, and which parameters were tried.

    A finished trial never changes, so with thousands of them one more costs next to nothing.

    Args:
        direction: "maximize" or "minimize".
        kept: how many of the best are told apart.
    """

    def __init__(self, direction: str, kept: int) -> None:
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._kept = kept
        self._seen: set[int] = set()
        self._best: list[tuple[float, int, int]] = []  # signed value, number, lineage
        self._tried: dict[Hashable, list[tuple[int, int | None]]] = {}  # number, lineage

    def add(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Take in those that have finished since; the unfinished ones are given back."""
        unfinished = []
        complete = []
        for trial in trials:
            if trial.number in self._seen:
                continue
            if not trial.state.is_finished():
                unfinished.append(trial)
                continue
            self._seen.add(trial.number)
            lineage = trial.user_attrs.get("lineage")  # another program may add trials without
            self._tried.setdefault(_key(trial.params), []).append((trial.number, lineage))
            if trial.state is TrialState.COMPLETE and lineage is not None:
                complete.append((self._sign * trial.values[0], trial.number, lineage))
        if complete:
            self._best = heapq.nsmallest(self._kept + 1, [*self._best, *complete])
        return unfinished

    @property
    def best(self) -> list[int]:
        """The lineages of the best complete trials, the best first, and of the next one."""
        return [lineage for _, _, lineage in self._best]

    def twin(
        self, trials: Iterable[FrozenTrial], params: Mapping[str, Any], number: int, lineage: int
    ) -> int | None:
        """The first of `trials` before `number` of the same parameters and another lineage."""
        unfinished = self.add(trials)
        found = [
            (other.number, other.user_attrs.get("lineage"))
            for other in unfinished
            if other.params == params
        ] + self._tried.get(_key(params), [])
        return min((n for n, of in found if n < number and of != lineage), default=None)


def _key(params: Mapping[str, Any]) -> Hashable:
    return tuple(sorted(params.items()))
