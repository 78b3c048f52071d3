"""The ledger against a simple model of it, driven by hypothesis, with a clock that the test owns.

The model holds the rules in their plainest form: dictionaries and no database.
"""

import tempfile
import uuid
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_clock import MAXIMIZE, TIMING, HandClock
from optuna.trial import TrialState

from search.attributes import Reason
from search.ledger import Claim, Fenced, Ledger
from search.storage import Storage, open_storage

LINEAGES = 3
MAX_RETRIES = 2
WORKERS = st.sampled_from(["a", "b", "c"])


@dataclass
class _Lineage:
    done: bool = False
    losses: int = 0
    holder: str | None = None
    until: float = 0.0
    trials: list[int] = field(default_factory=list)  # the chain of attempts, oldest first


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
        if self.seen is None or now - self.seen > 2 * TIMING.heartbeat_seconds:
            self.awake = now
        self.seen = now

    def reap(self, now: float) -> int:
        self.contact(now)
        dead = [
            lineage
            for lineage in self.lineages
            if lineage.holder is not None
            and lineage.until < now
            and self.awake <= now - TIMING.grace_seconds
        ]
        for lineage in dead:
            self.lose(lineage)
        return len(dead)

    def lose(self, lineage: _Lineage) -> None:
        trial = self.trials[lineage.trials[-1]]
        trial.state, trial.reason = TrialState.FAIL, "lost"
        lineage.holder = None
        lineage.losses += 1
        lineage.done = lineage.losses > MAX_RETRIES

    def claim(self, worker: str, now: float) -> int | None:
        self.reap(now)
        free = [n for n, row in enumerate(self.lineages) if not row.done and row.holder is None]
        if not free:
            return None
        tried = [n for n in free if self.lineages[n].trials]
        index = min(tried or free)
        lineage = self.lineages[index]
        trial = _Trial(lineage=index)
        if lineage.trials:
            trial.retry_of = lineage.trials[-1]
            trial.steps = dict(self.trials[trial.retry_of].steps)
        lineage.trials.append(len(self.trials))
        lineage.holder, lineage.until = worker, now + TIMING.lease_seconds
        self.trials.append(trial)
        return len(self.trials) - 1

    def holds(self, number: int) -> bool:
        return self.trials[number].state is TrialState.RUNNING


class LedgerMachine(RuleBasedStateMachine):
    """Claims are never forgotten: a worker may come back with any of them, however late."""

    storage: Storage  # set by the test; each example has a study of its own in it

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.ledger = Ledger.create(
            self.storage,
            uuid.uuid4().hex,
            directions=MAXIMIZE,
            lineages=LINEAGES,
            timing=TIMING,
            max_retries=MAX_RETRIES,
            clock=self.clock,
        )
        self.model = _Model()
        self.claims: list[Claim] = []

    @rule(seconds=st.sampled_from([1.0, 4.0, 9.0, 11.0, 31.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(beats=st.integers(1, 9))
    def somebody_watches_for_a_while(self, beats: int) -> None:
        for _ in range(beats):
            self.clock.seconds += TIMING.heartbeat_seconds
            assert self.ledger.reap() == self.model.reap(self.clock.seconds)

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        claim = self.ledger.claim(worker)
        number = self.model.claim(worker, self.clock.seconds)
        assert (None if claim is None else claim.trial.number) == number
        if claim is not None and number is not None:
            assert claim.previous == self.model.trials[number].retry_of
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        held = self.model.holds(claim.trial.number)
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
        try:
            self.storage.optuna.set_trial_intermediate_value(trial_id, step, value)
            written = True
        except Exception as error:
            assert type(error).__name__ == "UpdateFinishedTrialError"
            written = False
        assert written == self.model.holds(claim.trial.number)
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
        held = self.model.holds(claim.trial.number)
        try:
            self.ledger.end(claim, state, value, reason=reason)
            assert held
        except Fenced:
            assert not held
            return
        trial = self.model.trials[claim.trial.number]
        trial.state, trial.value, trial.reason = state, value, reason.value if reason else None
        row = self.model.lineages[claim.lease.lineage]
        row.holder, row.done = None, True

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        held = self.model.holds(claim.trial.number)
        try:
            self.ledger.release(claim)
            assert held
        except Fenced:
            assert not held
            return
        trial = self.model.trials[claim.trial.number]
        trial.state, trial.reason = TrialState.FAIL, "stopped"
        self.model.lineages[claim.lease.lineage].holder = None

    @rule(worker=WORKERS)
    def supervisor_saw_it_die(self, worker: str) -> None:
        held = [row for row in self.model.lineages if row.holder == worker]
        assert self.ledger.release_worker(worker) == len(held)
        for row in held:
            self.model.lose(row)

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        rows = self.ledger.rows()
        assert [(r.done, r.losses, r.worker, r.trial, r.attempt) for r in rows] == [
            (m.done, m.losses, m.holder, m.trials[-1] if m.trials else None, len(m.trials))
            for m in self.model.lineages
        ]
        stored = self.storage.optuna.get_all_trials(self.ledger.study_id)
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
    storage = open_storage(url)
    machine = type("Machine", (LedgerMachine,), {"storage": storage})
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
    storage.close()
    assert result is not None
    for _, text in result.failures + result.errors:
        pytest.fail(text)
    assert result.testsRun == 1
