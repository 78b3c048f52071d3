"""Incremental scan over a growing list of trials: skips the leading finished ones."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

__all__ = ["Unsettled"]


class Unsettled:
    """Remembers up to where all trials of a list, ordered by number, had finished.

    A finished trial never changes, so with thousands of them a scan costs next to nothing. If a
    trial appears among the old ones, the next scan covers the whole list.
    """

    def __init__(self) -> None:
        self._count = 0  # of leading trials that have finished
        self._last = -1  # number of the last of these

    def of(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """The trials that were unfinished or absent at the previous call."""
        start = self._count
        if start > len(trials) or (start and trials[start - 1].number != self._last):
            start = 0
        count = start
        while count < len(trials) and trials[count].state.is_finished():
            count += 1
        self._count, self._last = count, trials[count - 1].number if count else -1
        return trials[start:]
