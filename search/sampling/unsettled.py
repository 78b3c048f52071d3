"""The end of a list of trials that only grows, past those that will not change any more."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

__all__ = ["Unsettled"]


class Unsettled:
    """Remembers up to where all trials of a list, ordered by number, had finished.

    A finished trial never changes, so that with thousands of them a look at what is new costs next
    to nothing. Should a trial appear among the old ones, everything is looked at again.
    """

    def __init__(self) -> None:
        self._count = 0  # of leading trials that have finished
        self._last = -1  # number of the last of these

    def of(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """The trials that were not finished, or not there, at the call before."""
        start = self._count
        if start > len(trials) or (start and trials[start - 1].number != self._last):
            start = 0
        count = start
        while count < len(trials) and trials[count].state.is_finished():
            count += 1
        self._count, self._last = count, trials[count - 1].number if count else -1
        return trials[start:]
