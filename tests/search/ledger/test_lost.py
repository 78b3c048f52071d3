"""Lineages whose worker died or was cut off, their leases, and the clock that judges them."""

import optuna
import pytest
import sqlalchemy as sa
from ledger_clock import (
    COMPLETE,
    FAIL,
    MAXIMIZE,
    TIMING,
    HandClock,
    limits,
    must,
    pass_time,
    states,
    trial_of,
)
from lost_answer import lost_in_commit

from search.ledger import Counts, Fenced, Ledger
from search.ledger.attempt import Fresh
from search.storage import Storage, open_storage, schema


@pytest.mark.slow
def test_a_lost_trial_has_one_successor_that_goes_on(
    storage: Storage, ledger: Ledger, clock: HandClock
) -> None:
    dead = must(ledger.claim("dead", lambda n: Fresh(user_attrs={"name": f"n{n}"})))
    trial = trial_of(storage, ledger, dead)
    x = trial.suggest_float("x", 0, 1)
    trial.report(0.1, 1)
    trial.report(float("nan"), 2)
    pass_time(ledger, clock, 60)
    assert states(storage, ledger) == [(FAIL, 0, "lost", None)]
    claim = must(ledger.claim("w"))
    assert (claim.lease.lineage, claim.lease.attempt, claim.trial.number) == (0, 2, 1)
    again = trial_of(storage, ledger, claim)
    assert again.suggest_float("x", 0, 1) == x
    assert again.user_attrs == {"lineage": 0, "retry_of": 0, "name": "n0"}
    carried = storage.optuna.get_trial(claim.trial._trial_id).intermediate_values
    assert list(carried) == [1, 2]
    assert carried[1] == 0.1
    assert must(ledger.claim("w2")).lease.lineage == 1  # the lost one was taken once
    assert ledger.counts().lost_attempts == 1


def test_a_loss_that_nobody_is_to_blame_for_uses_up_no_retry(
    storage: Storage, ledger: Ledger
) -> None:
    for n in range(5):  # more often than max_retries
        claim = must(ledger.claim("w"))
        assert (claim.lease.lineage, claim.trial.number) == (0, n)
        assert ledger.release_worker("w", blame=False) == 1
    assert ledger.counts() == Counts(
        total=3, done=0, running=0, paused=0, free=3, begun=1, lost_attempts=0
    )
    assert states(storage, ledger)[4] == (FAIL, 0, "lost", 3)


@pytest.mark.slow
def test_a_heartbeat_leaves_the_shared_row_alone_unless_it_is_due(
    storage: Storage, ledger: Ledger, clock: HandClock
) -> None:
    claims = [must(ledger.claim(worker)) for worker in "abc"]

    def contacts(seconds: float) -> int:
        """How often the row changes while each worker proves to be alive for so long."""
        changes, seen = 0, None
        for _ in range(int(seconds / 0.5)):
            clock.seconds += 0.5
            for claim in claims:
                assert ledger.heartbeat(claim.lease)
                now = storage.read(lambda session: session.scalar(sa.select(schema.study.c.seen)))
                changes, seen = changes + (now != seen), now
        return changes

    assert contacts(60) <= 60 / (TIMING.heartbeat_seconds / 5) + 1
    assert ledger.elapsed() == pytest.approx(60, abs=TIMING.heartbeat_seconds / 5)
    clock.seconds -= 3600  # a contact of the future is none
    assert contacts(5) >= 4


@pytest.mark.slow
def test_only_a_heartbeat_does_not_wait_for_the_servers_disk(
    postgres_url: str, clock: HandClock
) -> None:
    storage = open_storage(postgres_url)
    attrs = limits()
    ledger = Ledger.create(
        storage, "s", directions=MAXIMIZE, lineages=2, user_attrs=attrs, clock=clock
    )
    waits: list[object] = []

    @sa.event.listens_for(storage.engine, "commit")
    def on_commit(connection: sa.Connection) -> None:
        waits.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar())

    first, second = must(ledger.claim("v")), must(ledger.claim("w"))
    assert ledger.heartbeat(first.lease)
    assert ledger.heartbeat(second.lease)
    ledger.end(first, COMPLETE, 1.0)
    ledger.release(second)
    assert waits == ["on", "on", "off", "off", "on", "on"]
    storage.close()


def test_after_max_retries_the_lineage_ends_as_lost(storage: Storage, ledger: Ledger) -> None:
    for attempt in range(3):
        claim = must(ledger.claim(f"w{attempt}"))
        assert claim.lease.lineage == 0
        assert ledger.release_worker(f"w{attempt}") == 1
    assert must(ledger.claim("w")).lease.lineage == 1
    assert ledger.counts() == Counts(
        total=3, done=1, running=1, paused=0, free=1, begun=2, lost_attempts=3
    )
    assert states(storage, ledger)[:3] == [
        (FAIL, 0, "lost", None),
        (FAIL, 0, "lost", 0),
        (FAIL, 0, "lost", 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("successor", [False, True])
def test_a_worker_that_returns_changes_nothing(
    storage: Storage, ledger: Ledger, successor: bool
) -> None:
    late = must(ledger.claim("late"))
    trial = trial_of(storage, ledger, late)
    trial.report(0.1, 1)
    assert ledger.heartbeat(late.lease)
    ledger.release_worker("late")
    if successor:
        ledger.claim("next")
    before = [repr(t) for t in storage.optuna.get_all_trials(ledger.study_id)], ledger.rows()
    assert not ledger.heartbeat(late.lease)
    with pytest.raises(Fenced):
        ledger.end(late, COMPLETE, 1.0, attrs={"a": 1})
    with pytest.raises(Fenced):
        ledger.release(late)
    for write in (
        lambda: trial.report(0.2, 2),
        lambda: trial.set_user_attr("a", 1),
        lambda: trial.suggest_float("y", 0, 1),
    ):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    trials = [repr(t) for t in storage.optuna.get_all_trials(ledger.study_id)]
    assert (trials, [r.worker for r in ledger.rows()]) == (before[0], [r.worker for r in before[1]])


def test_the_same_worker_name_does_not_revive_an_old_lease(ledger: Ledger) -> None:
    old = must(ledger.claim("w"))
    ledger.release_worker("w")
    new = must(ledger.claim("w"))
    assert new.lease.lineage == old.lease.lineage
    assert not ledger.heartbeat(old.lease)
    assert ledger.heartbeat(new.lease)


def test_beats_keep_a_lease(ledger: Ledger, clock: HandClock) -> None:
    claim = must(ledger.claim("w"))
    for _ in range(100):
        clock.seconds += 5
        assert ledger.heartbeat(claim.lease)
        assert ledger.reap() == 0


def test_a_lease_does_not_run_out_while_the_database_is_away(
    ledger: Ledger, clock: HandClock
) -> None:
    claim = must(ledger.claim("w"))
    for _ in range(5):
        clock.seconds += 3600  # nobody reached the database
        assert ledger.reap() == 0
        clock.seconds += 10
        assert ledger.reap() == 0  # back for 10 s, the grace is 15
    assert ledger.heartbeat(claim.lease)
    pass_time(ledger, clock, 25)
    assert ledger.heartbeat(claim.lease)


def test_the_dead_are_reaped_once_the_database_has_been_back_for_the_grace(
    ledger: Ledger, clock: HandClock
) -> None:
    ledger.claim("dead")
    clock.seconds += 3600
    reaped = []
    for _ in range(4):
        reaped.append(ledger.reap())
        clock.seconds += 5
    assert reaped == [0, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-3600.0, -20.0, -1.0, 3600.0])
def test_the_dead_are_reaped_and_the_living_are_not_when_the_clock_is_set(
    ledger: Ledger, clock: HandClock, jump: float
) -> None:
    alive, dead = must(ledger.claim("alive")), must(ledger.claim("dead"))
    for step in range(30):
        clock.seconds += TIMING.heartbeat_seconds + (jump if step == 15 else 0)
        assert ledger.heartbeat(alive.lease)
        if step < 14:
            assert ledger.heartbeat(dead.lease)
        ledger.reap()
        if step < 17:
            assert ledger.counts().lost_attempts == 0
    assert not ledger.heartbeat(dead.lease)
    assert ledger.counts().lost_attempts == 1
    assert ledger.elapsed() == pytest.approx(30 * TIMING.heartbeat_seconds, abs=15)


def test_time_in_which_nobody_works_costs_nothing(ledger: Ledger, clock: HandClock) -> None:
    for _ in range(4):
        assert ledger.reap() == 0  # as a command does that is stopped at once
        clock.seconds += 86_400
    ledger.reap()
    assert ledger.elapsed() == 0
    claim = must(ledger.claim("w"))
    clock.seconds += 86_400  # it was suspended, or the database was away
    assert ledger.heartbeat(claim.lease)
    assert ledger.elapsed() == 2 * TIMING.heartbeat_seconds
    ledger.release(claim)
    clock.seconds += 86_400
    must(ledger.claim("w"))
    assert ledger.elapsed() == 2 * TIMING.heartbeat_seconds


def test_each_loss_is_forgiven_once_though_an_answer_is_lost(
    storage: Storage, ledger: Ledger
) -> None:
    for worker, blame in (("a", True), ("b", True), ("c", False)):
        assert must(ledger.claim(worker)).lease.lineage == 0
        assert ledger.release_worker(worker, blame=blame) == 1
    assert ledger.counts().lost_attempts == 2
    with lost_in_commit(storage):
        ledger.forgive("a")
    assert ledger.counts().lost_attempts == 1
    assert (ledger.forgive("a"), ledger.forgive("c"), ledger.forgive("x")) == (0, 0, 0)
    assert ledger.counts().lost_attempts == 1
    assert ledger.forgive("b") == 1
    assert ledger.counts().lost_attempts == 0
    assert [attempt.how for attempt in ledger.attempts()] == ["lost"] * 3


def test_a_worker_is_lost_whose_last_attempt_was(ledger: Ledger) -> None:
    for worker in "abc":
        must(ledger.claim(worker))
    ledger.release_worker("a")
    ledger.release_worker("b", blame=False)
    assert ledger.lost_workers({"a", "b", "c", "x"}) == {"a", "b"}
    must(ledger.claim("a"))  # it was not dead
    assert ledger.lost_workers({"a", "b"}) == {"b"}
