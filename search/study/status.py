"""The status of a study at one moment; its cost depends on what changed since the last look."""

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
    """Counts of a study's finished trials; each trial is counted once.

    A finished trial never changes, so the cost of a call does not grow with their number.

    Attributes:
        finished: every trial that has ended, in the order in which `add` found it.
        states: number of trials that ended in each state.
        reasons: number of trials that ended for each reason.
        best: the COMPLETE trial with the best value; of equal ones, the earliest.
    """

    def __init__(self, direction: str) -> None:
        self._direction = direction
        self._clear()

    def _clear(self) -> None:
        self.finished: list[FrozenTrial] = []
        self.states: Counter[TrialState] = Counter()
        self.reasons: Counter[str] = Counter()
        self.best: FrozenTrial | None = None
        self._looked_at = 0  # number of trials seen so far
        self._last = -1  # number of the last trial seen
        self._open: list[int] = []  # indices of trials that had not ended

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Count the trials that have ended since the last call.

        Args:
            trials: all trials of the study, by number. If one was deleted, all are counted again.
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
    """How a study stands. Counts are of lineages, except `reasons`, which counts trials.

    Attributes:
        finished: every trial that has ended, those that a later one continues included.
        complete: lineages that ran to their end.
        pruned: lineages that the pruner ended, or whose configuration cannot be trained.
        reasons: number of trials that ended for each reason.
        best: the COMPLETE trial with the best value; of equal ones, the earliest.
    """

    name: str
    metric: str
    direction: str
    budget: int
    ended: int
    elapsed_seconds: float  # during which at least one worker ran
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
        """Lineages that ended without a result."""
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
        """The state in a word or two, as tables show it."""
        if self.halted is not None:
            return "halted"
        if self.done:
            return "finished"
        if self.at_work:
            return f"{len(self.at_work)} running"
        return "out of time" if self.out_of_time else "nobody at work"

    @property
    def remaining_seconds(self) -> float | None:
        """Time until the budget is used up, at the rate so far; None while no worker runs."""
        if not self.ended or self.done or not self.at_work:
            return None
        by_trials = self.elapsed_seconds / self.ended * (self.budget - self.ended)
        if self.hours is None:
            return by_trials
        return min(by_trials, max(0.0, self.hours * 3600 - self.elapsed_seconds))


def best_of(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The COMPLETE trial with the best value; of equal ones, the earliest. None without one."""
    sign = 1.0 if direction == "maximize" else -1.0
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    return max(complete, key=lambda t: (sign * (t.value or 0.0), -t.number), default=None)
