"""The ledger against a simple model of it, driven by hypothesis, with a clock that the test owns.

The model holds the rules in their plainest form: dictionaries and no database.
"""

import copy
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
from toy import toy_spec

from search.attributes import Reason
from search.ledger import Choice, Claim, Fenced, Lease, Ledger, Row
from search.ledger.amendments import amend
from search.ledger.attempt import Fresh
from search.ledger.by_hand import hold, let_go_on, stop_trial
from search.ledger.decisions import Decisions
from search.spec import parse_spec
from search.spec.amend import added, extended
from search.storage import Storage, open_storage

pytestmark = pytest.mark.slow

LINEAGES = 3
MAX_RETRIES = 2
WORKERS = st.sampled_from(["a", "b", "c"])
PAUSES = st.sampled_from([None, 1, 2, 3])
OFFSETS = st.sampled_from([None, 0, 0, -1])


MOST_LINEAGES = 8  # with those of amendments
FROZEN = parse_spec(toy_spec(trials=LINEAGES), where="toy")


@dataclass(frozen=True, kw_only=True)
class _Begins:
    """How a lineage begins: when it pauses, and the numbers of a decision and an amendment."""

    pause_at: int | None
    decision: int | None
    amendment: int | None


@dataclass
class _Lineage:
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
class _Trial:
    lineage: int
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    value: float | None = None
    retry_of: int | None = None
    steps: dict[int, float] = field(default_factory=dict)
    decisions: list[dict[str, int]] = field(default_factory=list)
    audited: bool = False


class _Model:
    def __init__(self) -> None:
        self.decisions = self.amendments = 0
        self.held = self.ended = False  # the study: paused by hand, ended by a stop rule
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
        lineage.paused = ours and how == "paused"
        return ours

    def ended_elsewhere(self, lineage: _Lineage) -> bool:
        """Whether another program ended the trial of a lineage that nobody holds."""
        last = self.trials[lineage.trials[-1]] if lineage.trials else None
        ended = last is not None and last.state.is_finished() and not last.reason
        return ended and lineage.holder is None

    def end_elsewhere(self) -> None:
        for row in self.lineages:
            if row.paused and self.ended_elsewhere(row):
                row.done, row.paused = True, False

    def claim(self, worker: str, now: float, begins: _Begins | None) -> int | None:
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
        trial = _Trial(lineage=index)
        if lineage.trials:
            last = self.trials[lineage.trials[-1]]
            trial.retry_of = lineage.trials[-1]
            trial.steps, trial.decisions = dict(last.steps), list(last.decisions)
            trial.audited = last.audited
        lineage.trials.append(len(self.trials))
        self.trials.append(trial)

    def amend(self, turns: list[int]) -> None:
        """So many lineages more; what ended the study is found out anew."""
        self.lineages += [_Lineage(turn=turn) for turn in turns]
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

    def decide(self, lineage: _Lineage, pause_at: int | None) -> None:
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
            how = _Begins(
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

    @rule(audited=st.integers(0, LINEAGES))
    def the_budget_is_used_up(self, audited: int) -> None:
        self.model.end_paused(audited)
        ended = Decisions(self.ledger).end_paused(lambda lineage: lineage == audited)
        assert ended == [
            n
            for n, row in enumerate(self.model.lineages)
            if row.trials and self.model.trials[row.trials[-1]].reason == "out-of-budget"
        ]

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
