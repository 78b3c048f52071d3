"""What a study looks like at one moment, at a cost that follows what changed since the last."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason

__all__ = ["Busy", "Status", "Tally", "best_of"]


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A trial that a worker runs."""

    worker: str
    lineage: int
    number: int  # of the trial
    name: str | None  # of a named trial
    attempt: int
    step: int  # the last one reported; 0 before the first
    value: float | None  # reported at that step
    since_seconds: float
    heartbeat_seconds: float  # since the last proof of life
    silent: bool  # whether heartbeats are missing, so that its worker may be dead
    lost_attempts: int  # of its lineage, whose worker died
    params: Mapping[str, Any]


class Tally:
    """The sum over a study's finished trials; it looks at each of them once.

    A finished trial never changes, so with 100,000 of them a further look costs next to nothing.

    Attributes:
        finished: every trial that has ended, in the order in which they were seen to have ended.
        states: how many have ended in each state.
        reasons: how often each reason stands on one.
        best: the COMPLETE one with the best value; the earlier one of equals.
    """

    def __init__(self, direction: str) -> None:
        self._direction = direction
        self._clear()

    def _clear(self) -> None:
        self.finished: list[FrozenTrial] = []
        self.states: Counter[TrialState] = Counter()
        self.reasons: Counter[str] = Counter()
        self.best: FrozenTrial | None = None
        self._looked_at = 0  # so many of the trials
        self._last = -1  # the number of the last of these
        self._open: list[int] = []  # indices of those that had not ended

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in those that have ended since, of all trials by number.

        Should a trial have been deleted, all are looked at again.
        """
        known = self._looked_at
        if known > len(trials) or (known and trials[known - 1].number != self._last):
            self._clear()
        looked_at = [*self._open, *range(self._looked_at, len(trials))]
        self._open = [n for n in looked_at if not trials[n].state.is_finished()]
        self._looked_at, self._last = len(trials), trials[-1].number if trials else -1
        new = [trials[n] for n in looked_at if trials[n].state.is_finished()]
        self.finished += new
        self.states.update(trial.state for trial in new)
        self.reasons.update(
            str(trial.user_attrs[attributes.REASON])
            for trial in new
            if attributes.REASON in trial.user_attrs
        )
        self.best = best_of([*([self.best] if self.best else []), *new], self._direction)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Counts are of lineages; only those of `reasons` are of trials.

    Attributes:
        finished: every trial that has ended, also those that a later one continues, in the order
            in which they were seen to have ended.
        complete: trials that ran to their end.
        pruned: trials that the pruner ended, or whose configuration cannot be trained.
        reasons: how often each reason stands on a trial.
        best: the COMPLETE trial with the best value; the earlier one of equals.
    """

    name: str
    metric: str
    direction: str
    budget: int
    ended: int
    elapsed_seconds: float  # with a worker at work
    hours: float | None
    halted: str | None
    running: Sequence[Busy] = ()
    finished: Sequence[FrozenTrial] = field(default=(), repr=False)
    complete: int = 0
    pruned: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    best: FrozenTrial | None = None

    @property
    def failed(self) -> int:
        """Lineages that ended with nothing to learn from."""
        return max(0, self.ended - self.complete - self.pruned)

    @property
    def lost(self) -> int:
        """Trials whose worker died."""
        return self.reasons.get(Reason.LOST.value, 0)

    @property
    def at_work(self) -> list[Busy]:
        """The trials whose workers send heartbeats."""
        return [busy for busy in self.running if not busy.silent]

    @property
    def done(self) -> bool:
        """Whether every lineage of the budget has ended."""
        return self.ended >= self.budget

    @property
    def out_of_time(self) -> bool:
        """Whether the hours of the budget are used up."""
        return self.hours is not None and self.elapsed_seconds >= self.hours * 3600

    @property
    def state(self) -> str:
        """In a word or two what goes on."""
        if self.halted is not None:
            return "halted"
        if self.done:
            return "finished"
        if self.at_work:
            return f"{len(self.at_work)} running"
        return "out of time" if self.out_of_time else "nobody at work"

    @property
    def remaining_seconds(self) -> float | None:
        """Until the budget is used up, if lineages go on ending at the rate so far.

        None while nobody is at work.
        """
        if not self.ended or self.done or not self.at_work:
            return None
        by_trials = self.elapsed_seconds / self.ended * (self.budget - self.ended)
        if self.hours is None:
            return by_trials
        return min(by_trials, max(0.0, self.hours * 3600 - self.elapsed_seconds))


def best_of(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The COMPLETE trial with the best value; the earlier one of equals; None without any."""
    sign = 1.0 if direction == "maximize" else -1.0
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    return max(complete, key=lambda t: (sign * (t.value or 0.0), -t.number), default=None)
