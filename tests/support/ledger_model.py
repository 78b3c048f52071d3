"""The rules of the ledger in their plainest form: dictionaries and no database."""

import copy
from dataclasses import dataclass, field

from ledger_clock import TIMING
from optuna.trial import TrialState

from search.ledger import Claim, Lease

__all__ = ["LINEAGES", "MAX_RETRIES", "Begins", "Model", "ModelLineage", "ModelTrial"]

LINEAGES = 3
MAX_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Begins:
    """How a lineage begins: when it pauses, and the numbers of a decision and an amendment."""

    pause_at: int | None
    decision: int | None
    amendment: int | None


@dataclass
class ModelLineage:
    done: bool = False
    paused: bool = False
    pause_at: int | None = None
    turn: int = 1
    lost_attempts: int = 0
    holder: str | None = None
    until: float = 0.0
    trials: list[int] = field(default_factory=list)  # one follows another that was lost
    attempts: list[tuple[str, int, str | None]] = field(default_factory=list)  # worker, trial, how


@dataclass
class ModelTrial:
    lineage: int
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    value: float | None = None
    retry_of: int | None = None
    steps: dict[int, float] = field(default_factory=dict)
    decisions: list[dict[str, int]] = field(default_factory=list)
    audited: bool = False


class Model:
    def __init__(self) -> None:
        self.decisions = self.amendments = 0
        self.held = self.ended = False  # the study: paused by hand, ended by a stop rule
        self.lineages = [ModelLineage() for _ in range(LINEAGES)]
        self.trials: list[ModelTrial] = []
        self.seen: float | None = None
        self.awake = 0.0

    def contact(self, now: float) -> None:
        if self.seen is not None and now - self.seen <= TIMING.heartbeat_seconds / 5:
            return
        if self.seen is None or now - self.seen > 2 * TIMING.heartbeat_seconds:
            self.awake = now
        self.seen = now

    def reap(self, now: float) -> int:
        reached = (
            self.seen is not None
            and self.seen >= now - 2 * TIMING.heartbeat_seconds
            and self.awake <= now - TIMING.grace_seconds
        )
        dead = [row for row in self.lineages if row.holder and row.until < now and reached]
        for lineage in dead:
            self.lose(lineage)
        self.contact(now)
        return len(dead)

    def lose(self, lineage: ModelLineage, *, blame: bool = True) -> None:
        if self.leave(lineage, "lost"):
            trial = self.trials[lineage.trials[-1]]
            trial.state, trial.reason = TrialState.FAIL, "lost"
            lineage.lost_attempts += blame
            lineage.done = lineage.lost_attempts > MAX_RETRIES

    def leave(self, lineage: ModelLineage, how: str) -> bool:
        """The lease ends; False where another program had ended the trial, which then counts."""
        worker, number, _ = lineage.attempts[-1]
        ours = self.trials[number].state is TrialState.RUNNING
        lineage.attempts[-1] = worker, number, how if ours else "elsewhere"
        lineage.holder, lineage.done = None, not ours
        lineage.paused = ours and how == "paused"
        return ours

    def ended_elsewhere(self, lineage: ModelLineage) -> bool:
        """Whether another program ended the trial of a lineage that nobody holds."""
        last = self.trials[lineage.trials[-1]] if lineage.trials else None
        ended = last is not None and last.state.is_finished() and not last.reason
        return ended and lineage.holder is None

    def end_elsewhere(self) -> None:
        for row in self.lineages:
            if row.paused and self.ended_elsewhere(row):
                row.done, row.paused = True, False

    def claim(self, worker: str, now: float, begins: Begins | None) -> int | None:
        """The trial that goes on or begins; `begins` says how one that never began would."""
        before = copy.deepcopy((self.lineages, self.trials))
        self.reap(now)
        free = [
            n
            for n, row in enumerate(self.lineages)
            if not (self.held or row.done or row.holder or row.paused)
            and (row.trials or not self.ended)
        ]
        free.sort(key=lambda n: (not self.lineages[n].trials, self.lineages[n].turn, n))
        for index in free:
            lineage = self.lineages[index]
            if self.ended_elsewhere(lineage):
                lineage.done = True
                continue
            if not lineage.trials:
                if begins is None:
                    break
                late = (
                    begins.amendment not in (None, self.amendments)
                    or begins.decision not in (None, self.decisions)
                )  # fmt: skip
                if late:  # the whole transaction is taken back
                    self.lineages, self.trials = before
                    return None
                lineage.pause_at = begins.pause_at
                self.decisions += begins.decision is not None
            self.follow(index)
            return self.lease(index, worker, now)
        return None

    def follow(self, index: int) -> None:
        """A trial for a lineage whose last one has ended, or that has none."""
        lineage = self.lineages[index]
        if lineage.trials and self.trials[lineage.trials[-1]].state is TrialState.RUNNING:
            return
        trial = ModelTrial(lineage=index)
        if lineage.trials:
            last = self.trials[lineage.trials[-1]]
            trial.retry_of = lineage.trials[-1]
            trial.steps, trial.decisions = dict(last.steps), list(last.decisions)
            trial.audited = last.audited
        lineage.trials.append(len(self.trials))
        self.trials.append(trial)

    def amend(self, turns: list[int]) -> None:
        """So many lineages more; what ended the study is found out anew."""
        self.lineages += [ModelLineage(turn=turn) for turn in turns]
        self.amendments += 1
        self.ended = False

    def stop(self, number: int) -> bool:
        """A running, paused or released trial ends for good; whether it did."""
        trial = self.trials[number]
        lineage = self.lineages[trial.lineage]
        if trial.state is not TrialState.RUNNING or lineage.trials[-1] != number or lineage.done:
            return False
        trial.state, trial.reason = TrialState.PRUNED, "stopped-by-hand"
        trial.value = trial.steps[max(trial.steps)] if trial.steps else None
        if lineage.holder:
            worker, of, _ = lineage.attempts[-1]
            lineage.attempts[-1] = worker, of, "stopped-by-hand"
        lineage.done, lineage.paused, lineage.holder = True, False, None
        return True

    def lease(self, index: int, worker: str, now: float) -> int:
        lineage = self.lineages[index]
        lineage.holder, lineage.until = worker, now + TIMING.lease_seconds
        lineage.attempts.append((worker, lineage.trials[-1], None))
        return lineage.trials[-1]

    def claim_paused(
        self,
        index: int,
        attempts: int,
        decision: int,
        pause_at: int | None,
        worker: str,
        now: float,
    ) -> int | None:
        """The paused trial that goes on, if it is still the one that was decided upon."""
        lineage = self.lineages[index]
        if self.held or not lineage.paused or len(lineage.attempts) != attempts:
            self.contact(now)
            return None
        if self.ended_elsewhere(lineage):
            lineage.done, lineage.paused = True, False
            self.contact(now)
            return None
        if decision != self.decisions:
            return None
        self.contact(now)
        self.decide(lineage, pause_at)
        lineage.paused = False
        return self.lease(index, worker, now)

    def decide(self, lineage: ModelLineage, pause_at: int | None) -> None:
        self.trials[lineage.trials[-1]].decisions.append({"n": self.decisions})
        self.decisions += 1
        lineage.pause_at = pause_at

    def end_paused(self, audited: int) -> None:
        for index, lineage in enumerate(self.lineages):
            if not lineage.paused:
                continue
            lineage.paused = False
            lineage.done = index != audited or self.ended_elsewhere(lineage)
            trial = self.trials[lineage.trials[-1]]
            if trial.state is not TrialState.RUNNING:
                continue
            if lineage.done:
                trial.state, trial.reason = TrialState.PRUNED, "out-of-budget"
                trial.value = trial.steps[max(trial.steps)] if trial.steps else None
            else:
                trial.audited, lineage.pause_at = True, None

    def holds(self, lease: Lease) -> bool:
        """Whether it is the lease under which its lineage is worked on."""
        lineage = self.lineages[lease.lineage]
        return lineage.holder == lease.worker and len(lineage.attempts) == lease.attempt

    def writes(self, claim: Claim) -> bool:
        """Whether the claim's process still changes its trial, which nobody else went on with."""
        last_worker = self.lineages[claim.lease.lineage].attempts[-1][0]
        running = self.trials[claim.trial.number].state is TrialState.RUNNING
        return running and last_worker == claim.lease.worker
