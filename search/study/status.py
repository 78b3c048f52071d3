"""What a study looks like at one moment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason

__all__ = ["Busy", "Status", "best_of"]


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A trial that a worker has in hand."""

    worker: str
    lineage: int
    number: int  # of the trial
    attempt: int
    step: int  # the last one reported; 0 before the first
    value: float | None  # reported at that step
    since_seconds: float
    heartbeat_seconds: float  # since the last proof of life
    silent: bool  # whether heartbeats are missing, so that its worker may be dead
    losses: int  # workers that died over this lineage
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Counts are of lineages; only `lost` and `stopped` count attempts."""

    name: str
    metric: str
    direction: str
    budget: int
    ended: int
    elapsed_seconds: float  # with a worker at work
    hours: float | None
    halted: str | None
    running: Sequence[Busy] = ()
    trials: Sequence[FrozenTrial] = field(default=(), repr=False)

    @property
    def finished(self) -> list[FrozenTrial]:
        """Every trial that has ended, also those that a later one continues."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    @property
    def complete(self) -> int:
        """Trials that ran to their end."""
        return self._count(TrialState.COMPLETE)

    @property
    def pruned(self) -> int:
        """Trials that the pruner ended, or whose configuration cannot be trained."""
        return self._count(TrialState.PRUNED)

    @property
    def reasons(self) -> Mapping[str, int]:
        """How often each reason stands on a trial."""
        return Counter(
            str(trial.user_attrs[attributes.REASON])
            for trial in self.finished
            if attributes.REASON in trial.user_attrs
        )

    @property
    def failed(self) -> int:
        """Lineages that ended with nothing to learn from."""
        return max(0, self.ended - self.complete - self.pruned)

    @property
    def lost(self) -> int:
        """Attempts whose worker died."""
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
    def best(self) -> FrozenTrial | None:
        """The COMPLETE trial with the best value; the earlier one of equals."""
        return best_of(self.trials, self.direction)

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

    def _count(self, state: TrialState) -> int:
        return sum(trial.state is state for trial in self.trials)


def best_of(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The COMPLETE trial with the best value; the earlier one of equals; None without any."""
    sign = 1.0 if direction == "maximize" else -1.0
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    return max(complete, key=lambda t: (sign * (t.value or 0.0), -t.number), default=None)
