from datetime import UTC
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from ledger_clock import (
    COMPLETE,
    FAIL,
    MAXIMIZE,
    PRUNED,
    TIMING,
    HandClock,
    limits,
    must,
    states,
    trial_of,
)
from lost_answer import lost_in_commit

from search import attributes
from search.attributes import Reason
from search.errors import StorageError, StudyNotFound
from search.ledger import Attempt, Counts, Fenced, Ledger
from search.ledger.attempt import Fresh
from search.storage import Storage, open_storage, schema


@pytest.mark.slow
def test_create_and_open(storage: Storage, ledger: Ledger) -> None:
    again = Ledger.open(storage, "s")
    assert (again.uid, again.study_id) == (ledger.uid, ledger.study_id)
    study = optuna.load_study(study_name="s", storage=storage.optuna)
    assert study.user_attrs == {**limits(max_retries=2), "search:uid": ledger.uid}
    assert (again.limits.timing, again.limits.max_retries) == (TIMING, 2)
    assert storage.optuna.get_study_system_attrs(study._study_id) == {"a": 1}
    assert study.directions == MAXIMIZE
    assert ledger.counts() == Counts(
        total=3, done=0, running=0, paused=0, free=3, begun=0, lost_attempts=0
    )
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        Ledger.create(storage, "s", directions=MAXIMIZE, lineages=3)
    assert ledger.counts().total == 3


def test_open_refuses(storage: Storage, ledger: Ledger) -> None:
    optuna.create_study(storage=storage.optuna, study_name="foreign")
    with pytest.raises(StudyNotFound, match="no study named 't'"):
        Ledger.open(storage, "t")
    with pytest.raises(StorageError, match="made by another program"):
        Ledger.open(storage, "foreign")


@pytest.mark.slow
def test_exactly_n_lineages(storage: Storage, ledger: Ledger) -> None:
    ends = [(COMPLETE, 1.0, None), (PRUNED, 0.5, Reason.DIVERGED), (FAIL, None, Reason.ERROR)]
    for lineage, (state, value, reason) in enumerate(ends):
        claim = must(ledger.claim("w"))
        assert claim.lease.lineage == claim.trial.number == lineage
        assert ledger.counts() == Counts(
            total=3,
            done=lineage,
            running=1,
            paused=0,
            free=2 - lineage,
            begun=lineage + 1,
            lost_attempts=0,
        )
        ledger.end(claim, state, value, reason=reason, attrs={"error": "x"} if reason else {})
    assert ledger.claim("w") is None
    assert ledger.counts() == Counts(
        total=3, done=3, running=0, paused=0, free=0, begun=3, lost_attempts=0
    )
    assert states(storage, ledger) == [
        (COMPLETE, 0, None, None),
        (PRUNED, 1, "diverged", None),
        (FAIL, 2, "error", None),
    ]
    trials = storage.optuna.get_all_trials(ledger.study_id)
    assert [t.value for t in trials] == [1.0, 0.5, None]
    assert all(t.datetime_start and t.datetime_complete for t in trials)
    assert [t.system_attrs[attributes.LEASE] for t in trials] == [[0, 1], [1, 1], [2, 1]]


@pytest.mark.slow
def test_fresh_parameters_are_what_suggest_returns(storage: Storage, ledger: Ledger) -> None:
    given = [Fresh(params={"x": 0.25, "kind": "a"}, user_attrs={"name": "first"}), Fresh()]
    first = must(ledger.claim("v", given.__getitem__))
    second = must(ledger.claim("w", given.__getitem__))
    trial = trial_of(storage, ledger, first)
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert trial.suggest_categorical("kind", ["b", "a"]) == "a"
    assert trial.user_attrs["name"] == "first"
    assert trial_of(storage, ledger, second).suggest_float("x", 0, 1) != 0.25


@pytest.mark.slow
def test_a_released_trial_goes_on_first_and_as_itself(
    storage: Storage, ledger: Ledger, clock: HandClock
) -> None:
    first, second = must(ledger.claim("a")), must(ledger.claim("b", origin={"worker": "b"}))
    trial_of(storage, ledger, second).report(0.5, 1)
    for n in range(5):  # more often than max_retries
        clock.seconds += 10
        ledger.release(second)
        assert ledger.counts().running == 1
        clock.seconds += 90
        second = must(ledger.claim(f"w{n}", origin={"worker": f"w{n}"}))
        assert (second.lease.lineage, second.lease.attempt) == (1, n + 2)
        assert (second.trial.number, second.trial.intermediate_values) == (1, {1: 0.5})
        assert second.trial.user_attrs == {"lineage": 1, "worker": f"w{n}"}
        assert second.trial.system_attrs[attributes.LEASE] == [1, n + 2]
    assert ledger.counts().lost_attempts == 0
    ledger.end(first, COMPLETE, 1.0)
    ledger.end(second, COMPLETE, 1.0)
    assert states(storage, ledger) == [(COMPLETE, 0, None, None), (COMPLETE, 1, None, None)]


@pytest.mark.slow
def test_every_attempt_is_on_record(ledger: Ledger, clock: HandClock) -> None:
    def at(attempt: Attempt) -> tuple[float, float | None]:
        ended = attempt.ended and attempt.ended.timestamp() - began
        return attempt.began.timestamp() - began, ended

    began = clock.seconds
    claim = must(ledger.claim("a"))
    clock.seconds += 3
    ledger.release(claim)
    clock.seconds += 4
    must(ledger.claim("b"))
    clock.seconds += 5
    ledger.release_worker("b")
    claim = must(ledger.claim("c"))
    ledger.end(claim, PRUNED, 0.5, reason=Reason.DIVERGED)
    must(ledger.claim("d"))
    found = ledger.attempts()
    assert [(a.lineage, a.attempt, a.trial, a.worker, a.how) for a in found] == [
        (0, 1, 0, "a", "stopped"),
        (0, 2, 0, "b", "lost"),
        (0, 3, 1, "c", "diverged"),
        (1, 1, 2, "d", None),
    ]
    assert [at(a) for a in found] == [(0, 3), (7, 12), (12, 12), (12, None)]
    assert {a.began.tzinfo for a in found} == {UTC}


def test_a_released_trial_that_another_program_ended_counts(
    storage: Storage, ledger: Ledger
) -> None:
    claim = must(ledger.claim("w"))
    ledger.release(claim)
    storage.optuna.set_trial_state_values(claim.trial._trial_id, COMPLETE, [1.0])
    second = must(ledger.claim("w"))
    assert (second.lease.lineage, second.trial.number) == (1, 1)
    assert ledger.counts() == Counts(
        total=3, done=1, running=1, paused=0, free=1, begun=2, lost_attempts=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_worker_that_released_a_trial_writes_nothing_once_it_goes_on(
    storage: Storage, storage_url: str, ledger: Ledger, clock: HandClock, again: bool
) -> None:
    late = must(ledger.claim("late"))
    trial = trial_of(storage, ledger, late)
    trial.report(0.1, 1)
    ledger.release(late)
    other_storage = open_storage(storage_url)
    other = Ledger.open(other_storage, "s", clock=clock)
    next_one = must(other.claim("next"))
    if again:
        other.release(next_one)
    for write in (
        lambda: trial.report(0.2, 2),
        lambda: trial.set_user_attr("a", 1),
        lambda: trial.suggest_float("y", 0, 1),
    ):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    assert not ledger.heartbeat(late.lease)
    for change in (ledger.release, lambda claim: ledger.end(claim, COMPLETE, 1.0)):
        with pytest.raises(Fenced):
            change(late)
    if not again:
        other.end(next_one, COMPLETE, 2.0)
        assert storage.optuna.get_trial(late.trial._trial_id).value == 2.0
    other_storage.close()


def test_what_is_looked_at_changes_nothing(storage: Storage, ledger: Ledger) -> None:
    def everything() -> list[object]:
        tables = [*schema.metadata.sorted_tables, sa.table("trials", sa.column("state"))]
        return [
            storage.read(lambda session, t=t: [tuple(r) for r in session.execute(sa.select(t))])
            for t in tables
        ]

    must(ledger.claim("w"))
    before = everything()
    opened = Ledger.open(storage, "s")
    for look in ("counts", "rows", "running", "attempts", "elapsed", "standing", "recent_errors"):
        getattr(opened, look)()
    assert everything() == before


@pytest.mark.slow
def test_a_claim_finds_its_row_by_an_index_however_large_the_budget_is(
    storage: Storage, clock: HandClock
) -> None:
    ledger = Ledger.create(
        storage, "large", directions=MAXIMIZE, lineages=5_000, user_attrs=limits(), clock=clock
    )
    must(ledger.claim("v"))
    explain = "EXPLAIN" if storage.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
    plans: list[str] = []

    @sa.event.listens_for(storage.engine, "before_cursor_execute")
    def on_execute(_: sa.Connection, cursor: Any, statement: str, given: Any, *__: Any) -> None:
        if statement.startswith("SELECT") and "FROM search_lineage" in statement:
            cursor.execute(f"{explain} {statement}", given)
            plans.append("\n".join(str(row[-1]) for row in cursor))

    with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    must(ledger.claim("w"))
    assert ledger.busy()
    reap, claim, busy = plans
    assert "search_lineage_free" in claim
    assert "search_lineage_leased" in reap
    assert "search_lineage_leased" in busy
    for plan in plans:
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def test_a_trial_that_another_program_ended_is_done(storage: Storage, ledger: Ledger) -> None:
    claim = must(ledger.claim("w"))
    storage.optuna.set_trial_state_values(claim.trial._trial_id, FAIL)
    with pytest.raises(Fenced):
        ledger.end(claim, COMPLETE, 1.0)
    assert ledger.counts().done == 1
    second = must(ledger.claim("w"))
    storage.optuna.set_trial_state_values(second.trial._trial_id, COMPLETE, [1.0])
    ledger.release_worker("w")
    assert ledger.counts().done == 2
    assert len(storage.optuna.get_all_trials(ledger.study_id)) == 2


def test_active_time_counts_overlapping_work_once_and_pauses_never(
    ledger: Ledger, clock: HandClock
) -> None:
    claims = [must(ledger.claim(w)) for w in "ab"]
    assert ledger.elapsed() == 0
    for _ in range(10):
        clock.seconds += 5
        for claim in claims:
            ledger.heartbeat(claim.lease)
    assert ledger.elapsed() == pytest.approx(50)
    clock.seconds += 10_000
    ledger.heartbeat(claims[0].lease)
    assert ledger.elapsed() == pytest.approx(60)


def test_rows_show_who_works_on_what(ledger: Ledger, clock: HandClock) -> None:
    claim = must(ledger.claim("w"))
    clock.seconds += 7
    ledger.heartbeat(claim.lease)
    clock.seconds += 2
    first, second, _ = ledger.rows()
    assert (first.lineage, first.trial, first.worker, first.attempt) == (0, 0, "w", 1)
    assert (first.running_seconds, first.heartbeat_age_seconds) == (9.0, 2.0)
    assert (second.worker, second.trial, second.running_seconds) == (None, None, None)


def test_database_clock_moves_forward(storage: Storage) -> None:
    import time

    ledger = Ledger.create(
        storage,
        "real",
        directions=MAXIMIZE,
        lineages=1,
        user_attrs=limits(heartbeat_seconds=0.1),
    )
    before = time.time()
    claim = must(ledger.claim("w"))
    time.sleep(0.3)
    (row,) = ledger.rows()
    assert row.running_seconds is not None
    assert 0.25 < row.running_seconds < time.time() - before + 0.1
    assert ledger.heartbeat(claim.lease)


@pytest.mark.slow
def test_renaming_in_the_dashboard_keeps_the_ledger(storage: Storage, ledger: Ledger) -> None:
    """optuna-dashboard copies the trials into a new study and deletes the old one."""
    must(ledger.claim("w"))
    second = must(ledger.claim("v"))
    ledger.end(second, COMPLETE, 1.0)
    ledger.release_worker("w")
    old = optuna.load_study(study_name="s", storage=storage.optuna)
    new = optuna.create_study(study_name="t", storage=storage.optuna, directions=old.directions)
    new.add_trials(old.get_trials(deepcopy=False))
    for key, value in old.user_attrs.items():
        new.set_user_attr(key, value)
    optuna.delete_study(study_name="s", storage=storage.optuna)
    renamed = Ledger.open(storage, "t")
    claim = must(renamed.claim("w"))
    assert (claim.lease.lineage, claim.trial.number) == (0, 2)
    assert claim.trial.user_attrs["retry_of"] == 0
    assert renamed.counts() == Counts(
        total=3, done=1, running=1, paused=0, free=1, begun=2, lost_attempts=1
    )


def test_texts_are_stored_at_a_bounded_length(storage: Storage, ledger: Ledger) -> None:
    huge = "a" + "x" * 1_000_000 + "z"
    claim = must(ledger.claim("w", origin={"environment": {"machine": huge, "list": [huge]}}))
    trial_of(storage, ledger, claim).set_user_attr("note", huge)
    ledger.end(claim, FAIL, reason=Reason.ERROR, attrs={"error": huge, "traceback": huge})
    fresh = open_storage(storage.address)  # without a cache of what was written
    (trial,) = fresh.optuna.get_all_trials(ledger.study_id)
    fresh.close()
    texts = [trial.user_attrs[key] for key in ("error", "traceback", "note")]
    environment = trial.user_attrs["environment"]
    for text in (*texts, environment["machine"], environment["list"][0]):
        assert 10_000 < len(text) <= 16_000
        assert (text[0], text[-1]) == ("a", "z")
    ledger.halt(trial.user_attrs["error"])
    assert ledger.resume() == 1


@pytest.mark.slow
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("how", ["end", "release"])
def test_a_connection_lost_in_the_commit_is_no_fence(
    storage: Storage, ledger: Ledger, how: str, committed: bool
) -> None:
    with lost_in_commit(storage, committed=committed):
        claim = must(ledger.claim("w"))
    assert (claim.lease.attempt, claim.trial.number) == (1, 0)
    with lost_in_commit(storage, committed=committed):
        if how == "end":
            ledger.end(claim, COMPLETE, 1.0)
        else:
            ledger.release(claim)
    (attempt,) = ledger.attempts()
    assert attempt.how == ("complete" if how == "end" else "stopped")
    with pytest.raises(Fenced):
        ledger.release(claim)
