"""Which of the best trials wins when they are trained again, and how far the search was flattered.

The best value of a search is the largest of many noisy ones, so it is better than its
configuration is. Training the best few again, over seeds and splits that the search did not see,
gives values that they were not chosen by. The candidates share each repeat's seed and split, so
that the difference of two of them is a mean of paired differences, with an interval of Student's t.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.outcome import is_feasible
from search.text import counted, figure
from search.text import percent as as_percent

__all__ = [
    "CONFIRMED",
    "Candidate",
    "Confirmation",
    "Difference",
    "candidates",
    "repeat_values",
    "sentences",
]

CONFIDENCE = 0.95  # of the interval
CONFIRMED = "Confirmed: "  # before what was confirmed


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of the best trials of the search, and what came of its repeats."""

    trial: int  # number, in the study that is confirmed
    searched: float  # value in the search
    values: tuple[float | None, ...]  # of each repeat; None: not complete

    @property
    def mean(self) -> float | None:
        """Of all repeats; None while one is not complete."""
        complete = [value for value in self.values if value is not None]
        return math.fsum(complete) / len(complete) if len(complete) == len(self.values) else None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean of paired differences with its interval; above 0: the winner is better."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What came of training the best trials of a study again.

    Attributes:
        study: the name of the study that holds the repeats.
        reshuffled: whether each repeat has a split of its own.
        candidates: the best of the search first.
        trials, ended: how many repeats there are in all, and how many have ended.
    """

    study: str
    metric: str
    direction: str
    reshuffled: bool
    candidates: tuple[Candidate, ...]
    trials: int
    ended: int

    @property
    def over(self) -> bool:
        """Whether every repeat has ended."""
        return self.ended >= self.trials

    @property
    def repeats(self) -> int:
        """Of each candidate."""
        return len(self.candidates[0].values)

    @property
    def _sign(self) -> float:
        return 1.0 if self.direction == "maximize" else -1.0

    @cached_property
    def _ranked(self) -> list[Candidate]:
        """The candidates whose repeats are all complete, the best mean first."""
        means = [(one.mean, one) for one in self.candidates]
        found = [(self._sign * mean, one) for mean, one in means if mean is not None]
        return [one for _, one in sorted(found, key=lambda pair: -pair[0])]  # stable: ties by value

    @property
    def winner(self) -> Candidate | None:
        """The candidate with the best mean; None before the end, or where each one lacks repeats.

        Of equal ones, the one with the better value in the search.
        """
        return self._ranked[0] if self.over and self._ranked else None

    @property
    def rival(self) -> Candidate | None:
        """What the winner is compared with: the best of the search, which would have won without.

        Where that is the winner itself, or lacks repeats, the candidate with the next best mean.
        """
        winner, best = self.winner, self.candidates[0]
        if winner is None or len(self._ranked) == 1:
            return None
        return best if best is not winner and best in self._ranked else self._ranked[1]

    @cached_property
    def difference(self) -> Difference | None:
        """How much better the winner is than its rival; None without a rival."""
        winner, rival = self.winner, self.rival
        if winner is None or rival is None:
            return None
        pairs = zip(winner.values, rival.values, strict=True)
        gains = [self._sign * (a - b) for a, b in pairs if a is not None and b is not None]
        n, mean = len(gains), math.fsum(gains) / len(gains)
        from scipy.special import stdtrit  # scipy.stats takes long to import

        deviation = math.sqrt(math.fsum((gain - mean) ** 2 for gain in gains) / (n - 1))
        reach = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
        return Difference(mean=mean, low=mean - reach, high=mean + reach)

    @property
    def flattered(self) -> float | None:
        """How much better the search's best value was than the mean of that trial's repeats.

        Below 0 where it was worse; None where not all of them are complete.
        """
        best = self.candidates[0]
        return None if best.mean is None else self._sign * (best.searched - best.mean)

    def to_json(self) -> dict[str, Any]:
        """For `--json`; see docs/json.md."""
        winner, rival, difference = self.winner, self.rival, self.difference
        return {
            "study": self.study,
            "trials": self.trials,
            "ended": self.ended,
            "splits": "reshuffled" if self.reshuffled else "same",
            "winner": None if winner is None else winner.trial,
            "mean": None if winner is None else winner.mean,
            "rival": None if rival is None else rival.trial,
            "difference": None if difference is None else vars(difference),
            "flattered": self.flattered if self.over else None,
            "candidates": [{**vars(one), "mean": one.mean} for one in self.candidates],
        }


def candidates(
    trials: Sequence[FrozenTrial],
    direction: str,
    count: int,
    params_of: Callable[[FrozenTrial], Mapping[str, Any]],
) -> list[FrozenTrial]:
    """The best feasible COMPLETE trials with different parameters, at most `count` of them.

    Of equal values the earlier trial comes first, as in `outcome.best_of`.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.values and is_feasible(t)]
    found: list[FrozenTrial] = []
    tried: list[Mapping[str, Any]] = []
    for trial in sorted(complete, key=lambda t: (-sign * t.values[0], t.number)):
        if len(found) == count:
            break
        params = params_of(trial)
        if params not in tried:  # the same seeds would give the same values
            found.append(trial)
            tried.append(params)
    return found


def repeat_values(trials: Sequence[FrozenTrial], lineages: Sequence[int]) -> list[float | None]:
    """The value of each of these lineages; None where it has no COMPLETE trial."""
    values = {
        trial.user_attrs.get(attributes.LINEAGE): trial.values[0]
        for trial in trials
        if trial.state is TrialState.COMPLETE and trial.values
    }
    return [values.get(lineage) for lineage in lineages]


def sentences(found: Confirmation, *, percent: bool = False) -> list[str]:
    """What was confirmed, and how much the search flattered itself.

    Args:
        percent: whether the metric is shown as a percentage.
    """
    if not found.over:
        return [
            f"Confirmation: {found.ended} of {counted(found.trials, 'repeat')} have ended, in the "
            f"study {found.study}."
        ]
    winner, rival, difference = found.winner, found.rival, found.difference
    if winner is None or winner.mean is None:
        return [
            f"Not confirmed: of no candidate are all repeats complete; see the study {found.study}."
        ]
    show, points = (as_percent, " percentage points") if percent else (figure, "")
    own = "a seed and a split of its own" if found.reshuffled else "a seed of its own"
    text = (
        f"{CONFIRMED}trial {winner.trial} with a mean {found.metric} of {show(winner.mean)} over "
        f"{found.repeats} repeats, each with {own}"
    )
    if rival is not None and difference is not None:
        low, mean, high = (
            f"{100 * each:.2f}" if percent else figure(each)
            for each in (difference.low, difference.mean, difference.high)
        )
        which = "the best of the search" if rival is found.candidates[0] else "the next"
        text += (
            f"; {mean}{points} better than trial {rival.trial}, {which} (95 % paired interval "
            f"{low} to {high})"
        )
    best, flattered = found.candidates[0], found.flattered
    if flattered is None or best.mean is None:
        second = f"Trial {best.trial}, the best of the search, did not complete all its repeats."
    else:
        by = f"{100 * flattered:.2f}" if percent else figure(flattered)
        how = f"flattered itself by {by}{points}" if flattered > 0 else "did not flatter itself"
        second = (
            f"The search {how}: its best value, of trial {best.trial}, was {show(best.searched)}, "
            f"and the mean of that trial's repeats is {show(best.mean)}."
        )
    return [f"{text}.", second]
