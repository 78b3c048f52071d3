"""Pausing a lineage, and the decisions by which it goes on, on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from ledger_clock import (
    COMPLETE,
    FAIL,
    PRUNED,
    RUNNING,
    HandClock,
    must,
    pass_time,
    states,
)
from lost_answer import lost_in_commit

from search import attributes
from search.attributes import Reason
from search.ledger import Choice, Claim, Counts, Fenced, Ledger, Row
from search.ledger.attempt import Fresh
from search.ledger.decisions import Decisions
from search.storage import Storage, open_storage
from search.study.copy_study import copy_study


@pytest.fixture
def decisions(ledger: Ledger) -> Decisions:
    return Decisions(ledger)


def to_step(step: int | None) -> Callable[[int], Fresh]:
    """What begins a trial that pauses at a step."""
    return lambda lineage: Fresh(user_attrs={"name": f"n{lineage}"}, pause_at=step)


def paused(ledger: Ledger, *, worker: str = "w", steps: int = 2) -> Row:
    """Begin the next lineage, report some steps, and pause it."""
    claim = must(ledger.claim(worker, to_step(steps)))
    for step in range(1, steps + 1):
        report(ledger, claim, step)
    ledger.pause(claim)
    return ledger.rows()[claim.lease.lineage]


def report(ledger: Ledger, claim: Claim, step: int) -> None:
    optuna_storage = ledger.storage.optuna
    optuna_storage.set_trial_intermediate_value(claim.trial._trial_id, step, step / 10)


def choice(decisions: Decisions, pause_at: int | None, **record: object) -> Choice:
    return Choice(number=decisions.count(), pause_at=pause_at, record=record)


@pytest.mark.slow
def test_a_paused_trial_stays_as_it_is_and_is_not_offered(
    storage: Storage, ledger: Ledger, clock: HandClock
) -> None:
    row = paused(ledger)
    assert (row.paused, row.worker, row.done, row.pause_at) == (True, None, False, 2)
    assert states(storage, ledger) == [(RUNNING, 0, None, None)]
    assert ledger.counts() == Counts(
        total=3, done=0, running=0, paused=1, free=2, begun=1, lost_attempts=0
    )
    assert [a.how for a in ledger.attempts()] == ["paused"]
    pass_time(ledger, clock, 3600)  # nobody's lease runs out
    assert must(ledger.claim("v")).lease.lineage == 1
    assert must(ledger.claim("v")).lease.lineage == 2
    assert ledger.claim("v") is None
    assert states(storage, ledger)[0] == (RUNNING, 0, None, None)


def test_a_decision_lets_that_very_trial_go_on(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    paused(ledger)
    row = paused(ledger)
    claim = must(decisions.claim("v", row, choice(decisions, 4, mean=0.5), origin={"worker": "v"}))
    assert (claim.lease.lineage, claim.lease.attempt, claim.pause_at) == (1, 2, 4)
    assert (claim.trial.number, claim.trial.intermediate_values) == (1, {1: 0.1, 2: 0.2})
    (_, stored) = storage.optuna.get_all_trials(ledger.study_id)
    assert stored == claim.trial
    assert stored.user_attrs == {
        "lineage": 1, "name": "n1", "worker": "v", "decisions": [{"mean": 0.5}],
    }  # fmt: skip
    assert stored.system_attrs[attributes.LEASE] == [1, 2]
    assert decisions.count() == 1
    report(ledger, claim, 3)
    ledger.end(claim, COMPLETE, 1.0)
    assert [(a.lineage, a.trial, a.how) for a in ledger.attempts()] == [
        (0, 0, "paused"), (1, 1, "paused"), (1, 1, "complete"),
    ]  # fmt: skip
    assert ledger.counts().lost_attempts == 0


def test_a_trial_goes_on_in_its_process(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    claim = must(ledger.claim("w", to_step(1)))
    assert decisions.go_on(claim, choice(decisions, 2, n=1))
    assert decisions.go_on(claim, choice(decisions, None, n=2))
    (row,) = ledger.running()
    assert (row.attempt, row.pause_at, decisions.count()) == (1, None, 2)
    (trial,) = storage.optuna.get_all_trials(ledger.study_id)
    assert trial.user_attrs["decisions"] == [{"n": 1}, {"n": 2}]
    fresh = open_storage(storage.address)  # without a cache of what was written
    assert fresh.optuna.get_all_trials(ledger.study_id) == [trial]
    fresh.close()
    report(ledger, claim, 1)
    ledger.end(claim, COMPLETE, 1.0)
    assert [a.how for a in ledger.attempts()] == ["complete"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["released", "lost"])
def test_whoever_follows_goes_to_the_same_step(
    storage: Storage, ledger: Ledger, decisions: Decisions, how: str
) -> None:
    row = paused(ledger)
    claim = must(decisions.claim("w", row, choice(decisions, 5, n=1)))
    report(ledger, claim, 3)
    if how == "released":
        ledger.release(claim)
    else:
        ledger.release_worker("w")
    again = must(ledger.claim("v"))  # before those that have not begun
    assert (again.lease.lineage, again.pause_at) == (0, 5)
    assert again.trial.number == (0 if how == "released" else 1)
    assert list(again.trial.intermediate_values) == [1, 2, 3]
    assert again.trial.user_attrs["decisions"] == [{"n": 1}]
    assert ledger.steps() == 3  # a step that a retry inherits counts once
    assert ledger.counts().lost_attempts == (how == "lost")


def test_a_decision_is_void_once_another_was_carried_out(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    first, second = paused(ledger), paused(ledger)
    running = must(ledger.claim("z", to_step(1)))
    stale = choice(decisions, 3)
    must(decisions.claim("v", second, stale))
    before = storage.optuna.get_all_trials(ledger.study_id), ledger.rows()[:2]
    assert decisions.claim("w", first, stale) is None
    assert not decisions.go_on(running, stale)
    assert ledger.claim("w", lambda _: Fresh(decision=stale.number)) is None
    assert (storage.optuna.get_all_trials(ledger.study_id), ledger.rows()[:2]) == before
    assert (decisions.count(), ledger.counts().free) == (1, 0)
    assert decisions.go_on(running, choice(decisions, 3))


def test_a_trial_that_begins_by_a_decision(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    assert ledger.claim("w", lambda _: None) is None  # none is to begin without one
    assert ledger.counts().begun == 0
    number = decisions.count()
    claim = must(ledger.claim("w", lambda _: Fresh(pause_at=1, decision=number)))
    assert (claim.lease.lineage, claim.pause_at, decisions.count()) == (0, 1, 1)
    assert ledger.claim("v", lambda _: Fresh(pause_at=1, decision=number)) is None
    assert len(storage.optuna.get_all_trials(ledger.study_id)) == 1
    ledger.release(claim)
    assert must(ledger.claim("v", lambda _: None)).lease.lineage == 0  # it has begun


@pytest.mark.slow
@pytest.mark.parametrize("what", ["taken", "paused again", "ended", "halted"])
def test_a_lineage_that_is_not_as_it_was_decided_upon(
    ledger: Ledger, decisions: Decisions, what: str
) -> None:
    row = paused(ledger)
    claim: Claim | None = None
    if what == "halted":
        ledger.halt("E")
    else:
        claim = must(decisions.claim("v", row, choice(decisions, 3)))
    if claim and what == "paused again":
        ledger.pause(claim)
    if claim and what == "ended":
        ledger.end(claim, COMPLETE, 1.0)
    before = ledger.rows(), decisions.count()
    assert decisions.claim("w", row, choice(decisions, 4)) is None
    assert (ledger.rows(), decisions.count()) == before


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_worker_that_paused_a_trial_writes_nothing_once_it_goes_on(
    storage: Storage, storage_url: str, ledger: Ledger, clock: HandClock, again: bool
) -> None:
    late = must(ledger.claim("late", to_step(1)))
    report(ledger, late, 1)
    ledger.pause(late)
    other_storage = open_storage(storage_url)
    other = Ledger.open(other_storage, "s", clock=clock)
    theirs = Decisions(other)
    following = must(theirs.claim("next", other.rows()[0], choice(theirs, 2)))
    if again:
        other.pause(following)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        report(ledger, late, 2)
    assert not ledger.heartbeat(late.lease)
    for change in (ledger.pause, ledger.release, lambda claim: ledger.end(claim, COMPLETE, 1.0)):
        with pytest.raises(Fenced):
            change(late)
    with pytest.raises(Fenced):
        Decisions(ledger).go_on(late, choice(theirs, 9))
    if not again:
        other.end(following, COMPLETE, 2.0)
        assert storage.optuna.get_trial(late.trial._trial_id).value == 2.0
    other_storage.close()


def test_at_the_end_of_the_budget_paused_trials_end_as_pruned(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    paused(ledger, steps=2)
    paused(ledger, steps=3)
    running = must(ledger.claim("w", to_step(1)))
    assert decisions.end_paused(audited=lambda lineage: lineage == 1, amendment=0) == [0]
    assert states(storage, ledger) == [
        (PRUNED, 0, "out-of-budget", None), (RUNNING, 1, None, None), (RUNNING, 2, None, None),
    ]  # fmt: skip
    pruned, audited, _ = storage.optuna.get_all_trials(ledger.study_id)
    assert (pruned.value, bool(pruned.datetime_complete)) == (0.2, True)
    assert audited.user_attrs["audit"] == {"trial": 1, "step": 3, "value": 0.3}
    assert ledger.counts() == Counts(
        total=3, done=1, running=1, paused=0, free=1, begun=3, lost_attempts=0
    )
    ledger.pause(running)
    assert decisions.end_paused(amendment=0) == [0, 2]
    claim = must(ledger.claim("v"))
    assert (claim.lease.lineage, claim.pause_at) == (1, None)
    ledger.end(claim, COMPLETE, 1.0)
    assert decisions.end_paused(amendment=0) == [0, 2]
    assert ledger.counts().done == 3


def test_a_paused_trial_that_another_program_ended_counts(
    storage: Storage, ledger: Ledger, decisions: Decisions
) -> None:
    rows = [paused(ledger) for _ in range(3)]
    trials = storage.optuna.get_all_trials(ledger.study_id)
    other = open_storage(storage.address)
    for trial in trials:
        other.optuna.set_trial_state_values(trial._trial_id, COMPLETE, [1.0])
    other.close()
    assert decisions.claim("w", rows[0], choice(decisions, 3)) is None
    assert ledger.counts().done == 1
    decisions.end_elsewhere()
    assert ledger.counts().done == 3
    assert decisions.end_paused(amendment=0) == []
    assert decisions.count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("committed", [True, False])
def test_an_answer_that_is_lost_changes_nothing(
    storage: Storage, ledger: Ledger, decisions: Decisions, committed: bool
) -> None:
    first = must(ledger.claim("w", to_step(1)))
    report(ledger, first, 1)
    with lost_in_commit(storage, committed=committed):
        ledger.pause(first)
    with lost_in_commit(storage, committed=committed):
        claim = must(decisions.claim("w", ledger.rows()[0], choice(decisions, 2, n=1)))
    with lost_in_commit(storage, committed=committed):
        assert decisions.go_on(claim, choice(decisions, 3, n=2))
    assert claim.trial.number == 0
    (trial,) = storage.optuna.get_all_trials(ledger.study_id)
    assert trial.user_attrs["decisions"] == [{"n": 1}, {"n": 2}]
    assert decisions.count() == 2
    with lost_in_commit(storage, committed=committed):
        begun = ledger.claim("v", lambda _: Fresh(decision=2))
    assert must(begun).lease.lineage == 1
    ledger.pause(claim)
    with lost_in_commit(storage, committed=committed):
        assert decisions.end_paused(amendment=0) == [0]
    assert [(a.lineage, a.attempt, a.how) for a in ledger.attempts()] == [
        (0, 1, "paused"), (0, 2, "paused"), (1, 1, None),
    ]  # fmt: skip


@pytest.mark.slow
def test_of_those_that_decide_at_once_one_succeeds(
    storage: Storage, storage_url: str, ledger: Ledger
) -> None:
    paused(ledger)
    paused(ledger)
    rows = ledger.rows()
    ready = threading.Barrier(6)
    storages = [open_storage(storage_url) for _ in range(6)]

    def take(n: int) -> Claim | None:
        mine = Ledger.open(storages[n], "s")
        here = Decisions(mine)
        ready.wait()
        if n % 3 == 2:
            return mine.claim(f"w{n}", lambda _: Fresh(decision=0))
        return here.claim(f"w{n}", rows[n % 3], Choice(number=0, pause_at=3, record={"n": n}))

    with ThreadPoolExecutor(6) as pool:
        claims = [claim for claim in pool.map(take, range(6)) if claim is not None]
    assert len(claims) == 1
    assert ledger.counts().running == 1
    assert Decisions(ledger).count() == 1
    for opened in storages:
        opened.close()


@pytest.mark.slow
def test_a_copied_study_keeps_what_is_paused(
    storage: Storage, ledger: Ledger, tmp_path: Path
) -> None:
    row = paused(ledger)
    ledger.end(must(ledger.claim("w")), FAIL, reason=Reason.ERROR)
    target = open_storage(f"sqlite:///{tmp_path / 'copy.db'}")
    assert copy_study("s", storage, target) == 2
    copied = Ledger.open(target, "s")
    assert copied.counts() == ledger.counts()
    there = Decisions(copied)
    claim = must(there.claim("w", copied.rows()[0], choice(there, 3)))
    assert claim.trial.intermediate_values == {1: 0.1, 2: 0.2}
    assert ledger.rows()[0] == row
    target.close()
