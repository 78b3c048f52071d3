"""The ledger against a simple model of it, driven by hypothesis, with a clock that the test owns.

The model holds the rules in their plainest form: dictionaries and no database.
"""

import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_clock import MAXIMIZE, TIMING, HandClock, limits
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from search.attributes import Reason
from search.ledger import Claim, Fenced, Lease, Ledger
from search.storage import Storage, open_storage

LINEAGES = 3
MAX_RETRIES = 2
WORKERS = st.sampled_from(["a", "b", "c"])


@dataclass
class _Lineage:
    done: bool = False
    lost_attempts: int = 0
    holder: str | None = None
    until: float = 0.0
    trials: list[int] = field(default_factory=list)  # one follows another that was lost
    attempts: list[tuple[str, int, str | None]] = field(default_factory=list)  # worker, trial, how


@dataclass
class _Trial:
    lineage: int
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    value: float | None = None
    retry_of: int | None = None
    steps: dict[int, float] = field(default_factory=dict)


class _Model:
    def __init__(self) -> None:
        self.lineages = [_Lineage() for _ in range(LINEAGES)]
        self.trials: list[_Trial] = []
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

    def lose(self, lineage: _Lineage, *, blame: bool = True) -> None:
        if self.leave(lineage, "lost"):
            trial = self.trials[lineage.trials[-1]]
            trial.state, trial.reason = TrialState.FAIL, "lost"
            lineage.lost_attempts += blame
            lineage.done = lineage.lost_attempts > MAX_RETRIES

    def leave(self, lineage: _Lineage, how: str) -> bool:
        """The lease ends; False where another program had ended the trial, which then counts."""
        worker, number, _ = lineage.attempts[-1]
        ours = self.trials[number].state is TrialState.RUNNING
        lineage.attempts[-1] = worker, number, how if ours else "elsewhere"
        lineage.holder, lineage.done = None, not ours
        return ours

    def claim(self, worker: str, now: float) -> int | None:
        self.reap(now)
        for lineage in self.lineages:  # a released trial that another program ended counts
            last = self.trials[lineage.trials[-1]] if lineage.trials else None
            if lineage.holder is None and last and last.state.is_finished() and not last.reason:
                lineage.done = True
        free = [n for n, row in enumerate(self.lineages) if not row.done and row.holder is None]
        if not free:
            return None
        tried = [n for n in free if self.lineages[n].trials]
        index = min(tried or free)
        lineage = self.lineages[index]
        if not lineage.trials or self.trials[lineage.trials[-1]].state.is_finished():
            trial = _Trial(lineage=index)
            if lineage.trials:
                trial.retry_of = lineage.trials[-1]
                trial.steps = dict(self.trials[trial.retry_of].steps)
            lineage.trials.append(len(self.trials))
            self.trials.append(trial)
        lineage.holder, lineage.until = worker, now + TIMING.lease_seconds
        lineage.attempts.append((worker, lineage.trials[-1], None))
        return lineage.trials[-1]

    def holds(self, lease: Lease) -> bool:
        """Whether it is the lease under which its lineage is worked on."""
        lineage = self.lineages[lease.lineage]
        return lineage.holder == lease.worker and len(lineage.attempts) == lease.attempt

    def writes(self, claim: Claim) -> bool:
        """Whether the claim's process still changes its trial, which nobody else went on with."""
        last_worker = self.lineages[claim.lease.lineage].attempts[-1][0]
        running = self.trials[claim.trial.number].state is TrialState.RUNNING
        return running and last_worker == claim.lease.worker


class LedgerMachine(RuleBasedStateMachine):
    """Each worker has a process of its own, which here is a storage of its own.

    Claims are never forgotten: a worker may come back with any of them, however late.
    """

    storages: Mapping[str, Storage]  # by worker; each example has a study of its own in them

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        name = uuid.uuid4().hex
        self.ledger = Ledger.create(
            self.storages["a"],
            name,
            directions=MAXIMIZE,
            lineages=LINEAGES,
            user_attrs=limits(max_retries=MAX_RETRIES),
            clock=self.clock,
        )
        self.ledgers = {
            worker: Ledger.open(storage, name, clock=self.clock)
            for worker, storage in self.storages.items()
        }
        self.model = _Model()
        self.claims: list[Claim] = []

    @rule(seconds=st.sampled_from([1.0, 4.0, 9.0, 11.0, 31.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(looks=st.integers(1, 9))
    def somebody_watches_for_a_while(self, looks: int) -> None:
        for _ in range(looks):
            self.clock.seconds += TIMING.heartbeat_seconds
            assert self.ledger.reap() == self.model.reap(self.clock.seconds)

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        claim = self.ledgers[worker].claim(worker)
        number = self.model.claim(worker, self.clock.seconds)
        assert (None if claim is None else claim.trial.number) == number
        if claim is not None and number is not None:
            model = self.model.trials[number]
            assert claim.trial.user_attrs.get("retry_of") == model.retry_of
            assert claim.trial.intermediate_values == model.steps
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        held = self.model.holds(claim.lease)
        assert self.ledger.heartbeat(claim.lease) == held
        self.model.contact(self.clock.seconds)
        if held:
            row = self.model.lineages[claim.lease.lineage]
            row.until = self.clock.seconds + TIMING.lease_seconds

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), step=st.integers(1, 4), value=st.floats(0, 1))
    def report(self, data: st.DataObject, step: int, value: float) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        trial_id = claim.trial._trial_id
        storage = self.storages[claim.lease.worker].optuna
        try:
            storage.set_trial_intermediate_value(trial_id, step, value)
            written = True
        except UpdateFinishedTrialError:
            written = False
        assert written == self.model.writes(claim)
        if written:
            self.model.trials[claim.trial.number].steps[step] = value

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        how=st.sampled_from(
            [
                (TrialState.COMPLETE, 1.0, None),
                (TrialState.PRUNED, 0.5, Reason.DIVERGED),
                (TrialState.FAIL, None, Reason.ERROR),
            ]
        ),
    )
    def end(self, data: st.DataObject, how: tuple[TrialState, float | None, Reason | None]) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        state, value, reason = how
        word = reason.value if reason else None
        if self._leaves(claim, lambda ledger: ledger.end(claim, state, value, reason=reason),
                        word or state.name.lower()):  # fmt: skip
            trial = self.model.trials[claim.trial.number]
            trial.state, trial.value, trial.reason = state, value, word
            self.model.lineages[claim.lease.lineage].done = True

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self._leaves(claim, lambda ledger: ledger.release(claim), "stopped")

    def _leaves(self, claim: Claim, call: Callable[[Ledger], None], how: str) -> bool:
        """A worker gives its lease up; whether it was its own to give up."""
        held = self.model.holds(claim.lease)
        expected = held and self.model.leave(self.model.lineages[claim.lease.lineage], how)
        try:
            call(self.ledgers[claim.lease.worker])
            assert expected
        except Fenced:
            assert not expected
        return expected

    @rule(worker=WORKERS, blame=st.booleans())
    def supervisor_saw_it_die(self, worker: str, blame: bool) -> None:
        held = [row for row in self.model.lineages if row.holder == worker]
        assert self.ledger.release_worker(worker, blame=blame) == len(held)
        for row in held:
            self.model.lose(row, blame=blame)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def another_program_ends_a_trial(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        trial = self.model.trials[claim.trial.number]
        if trial.state is TrialState.RUNNING:
            other = self.storages["another program"].optuna
            other.set_trial_state_values(claim.trial._trial_id, TrialState.COMPLETE, [2.0])
            trial.state, trial.value = TrialState.COMPLETE, 2.0

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        rows = self.ledger.rows()
        assert [(r.done, r.lost_attempts, r.worker, r.trial, r.attempt) for r in rows] == [
            (m.done, m.lost_attempts, m.holder, (m.trials or [None])[-1], len(m.attempts))
            for m in self.model.lineages
        ]
        assert [(a.lineage, a.worker, a.trial, a.how) for a in self.ledger.attempts()] == [
            (n, *attempt) for n, m in enumerate(self.model.lineages) for attempt in m.attempts
        ]
        assert self.ledger.running() == [row for row in rows if row.worker is not None]
        stored = self.storages["a"].optuna.get_all_trials(self.ledger.study_id)
        assert [
            (
                t.user_attrs["lineage"],
                t.state,
                t.user_attrs.get("reason"),
                t.value,
                t.user_attrs.get("retry_of"),
                t.intermediate_values,
            )
            for t in stored
        ] == [
            (m.lineage, m.state, m.reason, m.value, m.retry_of, m.steps) for m in self.model.trials
        ]


def test_sqlite() -> None:
    with tempfile.TemporaryDirectory() as directory:
        _run(f"sqlite:///{directory}/study.db", examples=60, steps=40)


def test_postgres(postgres_url: str) -> None:
    _run(postgres_url, examples=15, steps=30)


def _run(url: str, *, examples: int, steps: int) -> None:
    storages = {name: open_storage(url) for name in ("a", "b", "c", "another program")}
    machine = type("Machine", (LedgerMachine,), {"storages": storages})
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    result = case("runTest").run()
    for storage in storages.values():
        storage.close()
    assert result is not None
    for _, text in result.failures + result.errors:
        pytest.fail(text)
    assert result.testsRun == 1
