"""A database that is away, locked or read-only: who waits, for how long, and what is printed."""

import threading
import time
from collections.abc import Iterator

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState

import search.storage.database
from search.errors import StorageError
from search.storage import Retry, Storage, open_storage
from search.storage import optuna_rdb as rdb

MAXIMIZE = [StudyDirection.MAXIMIZE]


@pytest.fixture
def opened(storage_url: str) -> Iterator[Storage]:
    storage = open_storage(storage_url)
    yield storage
    storage.close()


def test_a_server_that_goes_away_while_a_storage_is_opened_is_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def connect(engine: sa.Engine) -> optuna.storages.RDBStorage:
        calls.append(engine)
        if len(calls) == 1:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return rdb.connect(engine)

    monkeypatch.setattr(search.storage.database, "connect", connect)
    opened = open_storage(postgres_url)
    assert opened.optuna.get_all_studies() == []
    assert len(calls) == 2
    opened.close()


def test_a_user_who_may_create_no_tables_is_told_so(postgres: object, postgres_url: str) -> None:
    postgres.execute("CREATE ROLE nobody_in_particular LOGIN")  # type: ignore[attr-defined]
    url = sa.make_url(postgres_url).set(username="nobody_in_particular")
    try:
        with pytest.raises(StorageError, match="permission denied .*; the server answers, so"):
            open_storage(url.render_as_string(hide_password=False))
    finally:
        postgres.execute("DROP ROLE nobody_in_particular")  # type: ignore[attr-defined]


def test_a_disk_that_is_full_when_a_file_is_created_is_told_at_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(engine: sa.Engine) -> optuna.storages.RDBStorage:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("CREATE TABLE first_of_all (n INTEGER)")
        raise AssertionError

    monkeypatch.setattr(search.storage.database, "connect", connect)
    monkeypatch.setattr(search.storage.database, "OPEN_S", 1_000.0)
    with pytest.raises(StorageError, match="disk is full; make room on its disk, or give another"):
        open_storage(sqlite_url)


def test_a_dropped_database_is_waited_for_no_longer_than_a_restore_takes(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.storage.retry.MISSING_S", 0.0)
    storage = open_storage(postgres_url, retry=Retry(limit_seconds=5.0))
    url = sa.make_url(storage.address)
    other = sa.create_engine(
        url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool
    )
    with other.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{url.database}" WITH (FORCE)')
    with pytest.raises(StorageError, match=r"rejected the statement: .* does not exist"):
        storage.read(lambda session: session.scalar(sa.text("SELECT 1")))
    with other.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{url.database}"')
    storage.close()


def wait_for_line(caplog: pytest.LogCaptureFixture, words: str) -> None:
    deadline = time.monotonic() + 30
    while not any(words in line for line in caplog.messages):
        assert time.monotonic() < deadline, caplog.messages
        time.sleep(0.05)


@pytest.mark.slow
def test_waits_for_the_database_and_says_so_once(
    postgres: object, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(postgres_url)
    study_id = storage.optuna.create_new_study(MAXIMIZE, "x")
    trial_id = storage.optuna.create_new_trial(study_id)
    postgres.stop()  # type: ignore[attr-defined]
    writer = threading.Thread(
        target=lambda: storage.optuna.set_trial_user_attr(trial_id, "a", 1), daemon=True
    )
    reader = threading.Thread(target=lambda: storage.optuna.get_all_studies(), daemon=True)
    writer.start()
    reader.start()
    wait_for_line(caplog, "is away")
    time.sleep(1)
    postgres.start()  # type: ignore[attr-defined]
    writer.join(30)
    reader.join(30)
    assert storage.optuna.get_trial(trial_id).user_attrs == {"a": 1}
    lines = [record.message for record in caplog.records if record.name.startswith("search.")]
    assert len(lines) == 2, lines  # Optuna has a line of its own about the study
    assert "is away" in lines[0]
    assert "is back" in lines[1]
    storage.close()


@pytest.mark.slow
def test_gives_up_when_told(postgres: object, postgres_url: str) -> None:
    give_up = threading.Event()
    storage = open_storage(postgres_url, retry=Retry(give_up=give_up))
    postgres.stop()  # type: ignore[attr-defined]
    threading.Timer(0.5, give_up.set).start()
    try:
        with pytest.raises(StorageError, match="stopped while waiting for the database"):
            storage.optuna.get_all_studies()
    finally:
        postgres.start()  # type: ignore[attr-defined]
    storage.close()


@pytest.mark.slow
def test_a_reading_command_gives_up_after_its_limit(
    postgres: object, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(postgres_url, retry=Retry(limit_seconds=1.0))
    postgres.stop()  # type: ignore[attr-defined]
    try:
        with pytest.raises(StorageError, match="did not answer for 1 s: .*; run the same command"):
            storage.optuna.get_all_studies()
        assert ["is away" in line for line in caplog.messages] == [True]
    finally:
        postgres.start()  # type: ignore[attr-defined]
    storage.close()


@pytest.mark.slow
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL])
def test_a_lost_answer_is_recognised(opened: Storage, state: TrialState) -> None:
    """The commit goes through, its answer does not: the repetition must not look like a fence."""
    study_id = opened.optuna.create_new_study(MAXIMIZE, "x")
    trial_id = opened.optuna.create_new_trial(study_id)
    values = [0.5] if state is TrialState.COMPLETE else None
    _lose_one_answer(opened)
    assert opened.optuna.set_trial_state_values(trial_id, state, values)
    trial = opened.optuna.get_trial(trial_id)
    assert (trial.state, trial.values) == (state, values)


def test_a_foreign_finish_is_no_lost_answer(opened: Storage) -> None:
    study_id = opened.optuna.create_new_study(MAXIMIZE, "x")
    trial_id = opened.optuna.create_new_trial(study_id)
    opened.optuna.set_trial_state_values(trial_id, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        opened.optuna.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])


def _lose_one_answer(storage: Storage) -> None:
    """Make the next commit look failed although it went through."""
    import psycopg

    done = threading.Event()

    def after_commit(connection: sa.Connection) -> None:
        if done.is_set():
            return
        done.set()
        connection.connection.commit()
        raise sa.exc.OperationalError("COMMIT", None, psycopg.OperationalError("connection lost"))

    sa.event.listen(storage.engine, "commit", after_commit)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT nothing FROM nowhere", StorageError),  # the tables were dropped: one line
        ("INSERT INTO search_study (uid, elapsed) VALUES ('x', NULL)", sa.exc.IntegrityError),
    ],
)
def test_what_stays_wrong_is_not_repeated(
    opened: Storage, statement: str, error: type[Exception]
) -> None:
    calls = []

    def work(session: sa.orm.Session) -> None:
        calls.append(1)
        session.execute(sa.text(statement))

    with pytest.raises(error):
        opened.write(work)
    assert len(calls) == 1
