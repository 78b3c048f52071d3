"""The status of a study at one moment; its cost depends on what changed since the last look."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.ledger import Row, RuleEnd
from search.ledger.amendments import Amendment
from search.outcome import best_of, front_of

__all__ = ["Busy", "Paused", "Status", "Tally", "busy_of", "numbered"]

#: The state of a study that a rule of the budget ended, by the rule's key.
OUT_OF = {
    "target": "target reached",
    "patience": "out of patience",
    "hours": "out of time",
    "steps": "out of steps",
    "trials": "out of trials",
}


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


@dataclass(frozen=True, kw_only=True)
class Paused:
    """A trial that waits for a decision."""

    lineage: int
    number: int  # of the trial
    name: str | None  # of a named trial
    step: int  # at which it paused
    value: float | None  # reported there
    expected: float | None  # at its last step; None where nothing is known yet
    deviation: float | None  # standard deviation of what is expected
    params: Mapping[str, Any]


class Tally:
    """Counts of a study's finished trials; each trial is counted once.

    A finished trial never changes, so the cost of a call does not grow with their number.

    Attributes:
        finished: every trial that has ended, in the order in which `add` found it.
        states: number of trials that ended in each state.
        reasons: number of trials that ended for each reason.
        best: see `Status.best`.
        front: see `Status.front`.

    Args:
        directions: "maximize" or "minimize" for each of the study's metrics.
    """

    def __init__(self, *directions: str) -> None:
        self._directions = directions
        self._clear()

    def _clear(self) -> None:
        self.finished: list[FrozenTrial] = []
        self.states: Counter[TrialState] = Counter()
        self.reasons: Counter[str] = Counter()
        self.best: FrozenTrial | None = None
        self.front: list[FrozenTrial] = []
        self._looked_at = 0  # number of trials seen so far
        self._last = -1  # number of the last trial seen
        self._open: list[int] = []  # indices of trials that had not ended

    def add(self, trials: Sequence[FrozenTrial]) -> "Tally":
        """Count the trials that have ended since the last call; returns itself.

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
        if len(self._directions) > 1:
            self.front = front_of([*self.front, *new], self._directions)
        else:
            self.best = best_of([*([self.best] if self.best else []), *new], *self._directions)
        return self


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a study stands. Counts are of lineages, except `reasons`, which counts trials.

    Attributes:
        sampler, sampler_reason: which sampler the study has, and why.
        begun: lineages that have a trial.
        steps: that all lineages have reported; counted where the budget limits them.
        paused: the paused trials, the most promising first.
        finished: every trial that has ended, those that a later one continues included.
        complete: lineages that ran to their end.
        pruned: lineages that the pruner ended, that were paused when the budget was used up, or
            whose configuration cannot be trained.
        reasons: number of trials that ended for each reason.
        best: the feasible COMPLETE trial with the best value; of equal ones, the earliest. None
            with two metrics.
        front: with two metrics, the feasible COMPLETE trials that no other betters in both; the
            best by the first metric first.
        metrics: name -> direction of each metric.
        amendments: what was changed since the study was created, oldest first.
        held_since: since when somebody has paused the study, UTC; None: nobody has.
        ended_by: the stop rule that ended it; None: none has.
    """

    name: str
    metric: str
    direction: str
    budget: int
    ended: int
    elapsed_seconds: float  # during which at least one worker ran
    hours: float | None
    halted: str | None
    sampler: str
    sampler_reason: str
    pauses: bool  # whether the sampler pauses trials
    begun: int
    steps: int | None = None
    most_steps: int | None = None
    paused: Sequence[Paused] = ()
    running: Sequence[Busy] = ()
    finished: Sequence[FrozenTrial] = field(default=(), repr=False)
    complete: int = 0
    pruned: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    best: FrozenTrial | None = None
    front: Sequence[FrozenTrial] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    amendments: Sequence[Amendment] = ()
    held_since: datetime | None = None
    ended_by: RuleEnd | None = None

    @property
    def failed(self) -> int:
        """Lineages that ended without a result."""
        return max(0, self.ended - self.complete - self.pruned)

    @property
    def repeatable(self) -> int:
        """Failed lineages that `run --retry-failed` repeats: those that no other program failed."""
        ours = self.failed - sum(
            trial.state == TrialState.FAIL and attributes.REASON not in trial.user_attrs
            for trial in self.finished
        )
        return max(0, ours)

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
    def out_of_steps(self) -> bool:
        """Whether the steps of the budget are used up."""
        return self.most_steps is not None and (self.steps or 0) >= self.most_steps

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: what has begun has ended, and nothing begins any more."""
        used_up = self.out_of_time or self.out_of_steps or self.ended_by is not None
        return self.done or (used_up and self.ended == self.begun)

    @property
    def state(self) -> str:
        """The state in a word or two, as tables show it."""
        if self.halted is not None:
            return "halted"
        if self.done:
            return "finished"
        if self.held_since is not None:
            running = f", {len(self.at_work)} still running" if self.at_work else ""
            return f"paused{running}"
        if self.at_work:
            return f"{len(self.at_work)} running"
        if self.ended_by is not None:
            return OUT_OF[self.ended_by.rule]
        if self.out_of_time or self.out_of_steps:
            return OUT_OF["hours" if self.out_of_time else "steps"]
        return "nobody at work"

    @property
    def remedy(self) -> str:
        """What to do for another trial to choose from."""
        extend = f"`extend {self.name}"
        if self.halted is not None or (self.done and self.repeatable):
            return f"repeat the failed ones with `run {self.name} --retry-failed`"
        if self.done:
            return f"all its trials have ended: add some with {extend} --trials +10`"
        if not self.over:
            return "let it run on"
        rule = None if self.ended_by is None else self.ended_by.rule
        more = {}
        if self.out_of_time or rule == "hours":
            more["hours"] = "--hours +1"
        if self.out_of_steps or rule == "steps":
            more["steps"] = "--steps +100"
        more = more or {"trials": "--trials +10"}
        options = " ".join(more.values())
        return f"its budget is used up: add {' and '.join(more)} with {extend} {options}`"

    @property
    def remaining_seconds(self) -> float | None:
        """Time until the budget is used up, at the rate so far; None while no worker runs."""
        if self.done or not self.at_work or self.held_since is not None:
            return None
        elapsed = self.elapsed_seconds
        estimates = []
        if self.ended and not self.pauses:
            estimates.append(elapsed / self.ended * (self.budget - self.ended))
        if self.steps and self.most_steps:
            estimates.append(elapsed / self.steps * max(0, self.most_steps - self.steps))
        if self.hours is not None and (estimates or self.pauses):
            estimates.append(max(0.0, self.hours * 3600 - elapsed))
        return min(estimates, default=None)


def numbered(trials: Sequence[FrozenTrial], number: int | None) -> FrozenTrial | None:
    """The trial of that number among trials in order of their numbers."""
    if number is None:
        return None
    at = bisect_left(trials, number, key=lambda trial: trial.number)
    return trials[at] if at < len(trials) and trials[at].number == number else None


def busy_of(row: Row, trial: FrozenTrial, silence_seconds: float) -> Busy:
    """A leased row and its trial; the worker counts as silent after so many seconds."""
    steps = trial.intermediate_values
    return Busy(
        worker=row.worker or "",
        lineage=row.lineage,
        number=trial.number,
        name=trial.user_attrs.get(attributes.NAME),
        attempt=row.attempt,
        step=max(steps, default=0),
        value=steps[max(steps)] if steps else None,
        since_seconds=max(0.0, row.running_seconds or 0.0),  # as the clock may have been put back
        heartbeat_seconds=row.heartbeat_age_seconds or 0.0,
        # A proof of life from the future is none: the clock was put back.
        silent=abs(row.heartbeat_age_seconds or 0.0) > silence_seconds,
        lost_attempts=row.lost_attempts,
        params=trial.params,
    )
