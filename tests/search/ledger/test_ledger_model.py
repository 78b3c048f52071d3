"""The ledger against a simple model of it, driven by hypothesis; the test owns the clock."""

import tempfile
import uuid
from collections.abc import Callable, Mapping

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_clock import MAXIMIZE, TIMING, HandClock, limits
from ledger_model import LINEAGES, MAX_RETRIES, Begins, Model
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from toy import toy_spec

from search.attributes import Reason
from search.ledger import Choice, Claim, Fenced, Ledger, Row
from search.ledger.amendments import amend
from search.ledger.attempt import Fresh
from search.ledger.by_hand import hold, let_go_on, stop_trial
from search.ledger.decisions import Decisions
from search.spec import parse_spec
from search.spec.amend import added, extended
from search.storage import Storage, open_storage

pytestmark = pytest.mark.slow

WORKERS = st.sampled_from(["a", "b", "c"])
PAUSES = st.sampled_from([None, 1, 2, 3])
OFFSETS = st.sampled_from([None, 0, 0, -1])
MOST_LINEAGES = 8  # with those of amendments
FROZEN = parse_spec(toy_spec(trials=LINEAGES), where="toy")


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
        self.model = Model()
        self.claims: list[Claim] = []
        self.seen: list[Row] = []  # that were paused at the decision before

    @rule(seconds=st.sampled_from([1.0, 4.0, 9.0, 11.0, 31.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(looks=st.integers(1, 9))
    def somebody_watches_for_a_while(self, looks: int) -> None:
        for _ in range(looks):
            self.clock.seconds += TIMING.heartbeat_seconds
            assert self.ledger.reap() == self.model.reap(self.clock.seconds)

    @rule(
        worker=WORKERS,
        begins=st.none() | st.tuples(PAUSES, OFFSETS, OFFSETS),
    )
    def claim(self, worker: str, begins: tuple[int | None, int | None, int | None] | None) -> None:
        """The numbers of a decision and an amendment are given as offsets from the present ones."""
        how = None
        if begins is not None:
            pause_at, decision, amendment = begins
            how = Begins(
                pause_at=pause_at,
                decision=None if decision is None else self.model.decisions + decision,
                amendment=None if amendment is None else self.model.amendments + amendment,
            )

        def fresh(lineage: int) -> Fresh | None:
            return None if how is None else Fresh(**vars(how))

        claim = self.ledgers[worker].claim(worker, fresh)
        self._holds(claim, self.model.claim(worker, self.clock.seconds, how))

    @precondition(lambda self: len(self.model.lineages) < MOST_LINEAGES - 1)
    @rule(more=st.integers(1, 2))
    def extend(self, more: int) -> None:
        made = amend(
            self.ledger, FROZEN, lambda spec, _: extended(spec, trials=more, hours=0, steps=0)
        )
        self.model.amend([1] * more)
        assert (made.number, made.trials) == (self.model.amendments, len(self.model.lineages))

    @precondition(lambda self: len(self.model.lineages) < MOST_LINEAGES)
    @rule()
    def add_one_next_in_turn(self) -> None:
        made = amend(self.ledger, FROZEN, lambda spec, _: added(spec, {"x": 0.5}))
        self.model.amend([0])
        assert (made.number, made.trials) == (self.model.amendments, len(self.model.lineages))

    @precondition(lambda self: self.model.trials)
    @rule(data=st.data())
    def somebody_stops_a_trial(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.model.trials) - 1))
        stopped = stop_trial(self.ledger, number)
        lineage = self.model.lineages[self.model.trials[number].lineage]
        worker = lineage.holder
        assert (stopped is not None) == self.model.stop(number)
        if stopped is not None:
            assert stopped.worker == worker
            assert self.model.lineages[stopped.lineage] is lineage

    @rule()
    def somebody_pauses_the_study_or_lets_it_go_on(self) -> None:
        assert (let_go_on if self.model.held else hold)(self.ledger)
        self.model.held = not self.model.held

    @rule(late=st.booleans())
    def a_stop_rule_holds(self, late: bool) -> None:
        number = self.model.amendments - late
        found = self.ledger.end_by("target", 0, "it", amendment=number)
        self.model.ended = self.model.ended or not late
        assert (found is not None) == self.model.ended

    @precondition(lambda self: any(row.paused for row in self.model.lineages))
    @rule()
    def end_what_is_paused_and_ended_elsewhere(self) -> None:
        Decisions(self.ledger).end_elsewhere()
        self.model.end_elsewhere()

    @precondition(lambda self: any(row.paused for row in self.model.lineages))
    @rule(data=st.data(), worker=WORKERS, pause_at=PAUSES, late=st.sampled_from([0, 0, 0, 1]))
    def decide_on_a_paused_one(
        self, data: st.DataObject, worker: str, pause_at: int | None, late: int
    ) -> None:
        """`late`: another decision was carried out meanwhile, or the row was taken since."""
        seen = [row for row in self.ledger.rows() if row.paused]
        row = data.draw(st.sampled_from([*seen, *self.seen]))
        self.seen = seen
        number = self.model.decisions - late
        choice = Choice(number=number, pause_at=pause_at, record={"n": number})
        claim = Decisions(self.ledgers[worker]).claim(worker, row, choice)
        arguments = (row.lineage, row.attempt, number, pause_at)
        self._holds(claim, self.model.claim_paused(*arguments, worker, self.clock.seconds))

    def _holds(self, claim: Claim | None, number: int | None) -> None:
        assert (None if claim is None else claim.trial.number) == number
        if claim is not None and number is not None:
            model = self.model.trials[number]
            assert claim.trial.user_attrs.get("retry_of") == model.retry_of
            assert claim.trial.user_attrs.get("decisions", []) == model.decisions
            assert claim.trial.intermediate_values == model.steps
            assert claim.pause_at == self.model.lineages[claim.lease.lineage].pause_at
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), pause_at=PAUSES, late=st.sampled_from([0, 0, 1]))
    def go_on_past_the_pause(self, data: st.DataObject, pause_at: int | None, late: int) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        lineage = self.model.lineages[claim.lease.lineage]
        number = self.model.decisions - late
        choice = Choice(number=number, pause_at=pause_at, record={"n": number})
        held = self.model.holds(claim.lease)
        if held and self.model.trials[claim.trial.number].state.is_finished():
            self.model.leave(lineage, "elsewhere")
            held = False
        try:
            went_on = Decisions(self.ledgers[claim.lease.worker]).go_on(claim, choice)
            assert held
            assert went_on == (number == self.model.decisions)
        except Fenced:
            assert not held
            return
        if went_on:
            self.model.decide(lineage, pause_at)

    @rule(audited=st.integers(0, LINEAGES), late=st.booleans())
    def the_budget_is_used_up(self, audited: int, late: bool) -> None:
        number = self.model.amendments - late
        ended = Decisions(self.ledger).end_paused(
            lambda lineage: lineage == audited, amendment=number
        )
        if late:
            assert ended == []
            return
        self.model.end_paused(audited)
        assert ended == [
            n
            for n, row in enumerate(self.model.lineages)
            if row.trials and self.model.trials[row.trials[-1]].reason == "out-of-budget"
        ]

    @rule(amended=st.booleans(), decided=st.booleans())
    def nothing_more_can_be_completed(self, amended: bool, decided: bool) -> None:
        numbers = {
            "amendment": self.model.amendments - amended,
            "decision": self.model.decisions - decided,
        }
        Decisions(self.ledger).end_early("steps", None, "it", **numbers)
        under_way = any(row.trials and not row.done and not row.paused
                        for row in self.model.lineages)  # fmt: skip
        self.model.ended = self.model.ended or not (amended or decided or under_way)
        assert (self.ledger.standing().ended_by is not None) == self.model.ended

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        held = self.model.holds(claim.lease)
        assert (self.ledger.heartbeat(claim.lease) is not None) == held
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

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self._leaves(claim, lambda ledger: ledger.pause(claim), "paused")

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
        assert [
            (r.done, r.paused, r.pause_at, r.lost_attempts, r.worker, r.trial, r.attempt)
            for r in rows
        ] == [
            (m.done, m.paused, m.pause_at, m.lost_attempts, m.holder, (m.trials or [None])[-1],
             len(m.attempts))
            for m in self.model.lineages
        ]  # fmt: skip
        assert all(r.done + r.paused + (r.worker is not None) <= 1 for r in rows)
        counts = self.ledger.counts()
        assert counts.total == len(self.model.lineages)  # N and M
        standing = self.ledger.standing()
        assert (standing.held_since is not None) == self.model.held
        assert (standing.ended_by is not None) == self.model.ended
        assert (counts.done, counts.paused, counts.running, counts.begun) == (
            sum(r.done for r in rows),
            sum(r.paused for r in rows),
            sum(r.worker is not None for r in rows),
            sum(r.trial is not None for r in rows),
        )
        assert Decisions(self.ledger).count() == self.model.decisions
        assert self.ledger.steps() == sum(
            len(self.model.trials[m.trials[-1]].steps) for m in self.model.lineages if m.trials
        )
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
                t.user_attrs.get("decisions", []),
                "audit" in t.user_attrs,
            )
            for t in stored
        ] == [
            (m.lineage, m.state, m.reason, m.value, m.retry_of, m.steps, m.decisions, m.audited)
            for m in self.model.trials
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
