import contextlib
import multiprocessing
import os
import pickle
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from toy import toy_spec

import search
from search.errors import StorageError, StudyNotFound
from search.storage import Retry, Storage, open_storage, schema
from search.study import open_study

MAXIMIZE = [StudyDirection.MAXIMIZE]


@pytest.fixture
def opened(storage_url: str) -> Iterator[Storage]:
    storage = open_storage(storage_url)
    yield storage
    storage.close()


@pytest.mark.slow
class TestOptunaContract(StorageTestCase):
    """Optuna's own contract, on the storages that we hand out."""

    @pytest.fixture
    def storage(self, opened: Storage) -> optuna.storages.BaseStorage:
        return opened.optuna


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("grpc://localhost:13000", "PgBouncer"),
        ("mysql://root@localhost/x", "mysql"),
        ("journal.log", "got something that is no URL; give one of these"),
        ("sqlite://", "without a file"),
        ("sqlite:///:memory:", "without a file"),
        ("sqlite:///a.db?tmieout=3", "has no option 'tmieout'; it takes timeout, uri"),
        (
            "sqlite:///a.db?timeout=abc",
            "timeout of an SQLite URL is a number of seconds, got",
        ),
        ("sqlite:///a.db?timeout=-1", "the option timeout of an SQLite URL"),
        ("sqlite:///a.db?timeout=inf", "the option timeout of an SQLite URL"),
        ("sqlite:///a.db?timeout=1&timeout=2", "each option once, got timeout 2 times"),
        (
            "sqlite:///a.db?uri=maybe",
            "uri of an SQLite URL is true or false, got 'maybe'",
        ),
        (
            "sqlite:///file:a.db?uri=true&mode=x",
            "mode of an SQLite URL is ro, rw or rwc, got 'x'",
        ),
        ("sqlite:///file:a.db?uri=true&cache=x", "is shared or private, got 'x'"),
        ("postgresql://127.0.0.1:1/x?conect_timeout=3", "did you mean 'connect_timeout'?"),
        (
            "postgresql://127.0.0.1:1/x?autocommit=secret",
            "no option 'autocommit'; leave it out",
        ),
        *(
            (
                f"postgresql://127.0.0.1:1/x?{bad}",
                "; correct that option of the URL, or leave it out",
            )
            for bad in (
                "connect_timeout=abc",
                "sslmode=abc",
                "keepalives=abc",
                "gssencmode=abc",
                "channel_binding=abc",
                "target_session_attrs=abc",
                "require_auth=abc",
            )
        ),
        ("sqlite+aiosqlite:///a.db", "got SQLite by 'aiosqlite'"),
        ("sqlite+pysqlcipher://:secret@/a.db", "got SQLite by 'pysqlcipher'"),
        ("postgresql://u:secret@127.0.0.1:1/x", "cannot open"),
    ],
)
def test_refuses_with_one_line(url: str, words: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    line = str(caught.value)
    assert words in line
    assert "\n" not in line
    assert "secret" not in line


def test_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, " * 100)
    with pytest.raises(StorageError, match="not an SQLite database"):
        open_storage(f"sqlite:///{file}")
    assert file.read_text() == "these are notes, " * 100


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create the directory"):
        open_storage(f"sqlite:///{tmp_path / 'file' / 'study.db'}")


def test_creates_the_parent_directory(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "study.db"
    open_storage(f"sqlite:///{file}").close()
    assert file.exists()


def test_hides_the_password(storage_url: str) -> None:
    url = sa.make_url(storage_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(password="secret")
    storage = open_storage(url.render_as_string(hide_password=False))
    assert "secret" not in storage.url + repr(storage)
    assert ("secret" in storage.address) == (url.password is not None)
    storage.close()


def test_old_postgres_scheme(postgres_url: str) -> None:
    storage = open_storage(postgres_url.replace("postgresql://", "postgres://"))
    assert storage.dialect == "postgresql"
    storage.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_postgres_database_that_cannot_store_every_text_is_refused(
    postgres: Any, encoding: str
) -> None:
    name = f"encoded_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    url = sa.make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
    said = f"got '{name}' in {encoding}; create one with.*UTF8"
    try:
        with pytest.raises(StorageError, match=said):
            open_storage(url)
    finally:
        postgres.drop_database(url)


def test_a_postgres_that_takes_no_writes_is_said_at_once(postgres: Any, tmp_path: Path) -> None:
    """One without our tables, and one with them, which may be read."""
    url = postgres.create_database()
    name = sa.make_url(url).database
    read_only = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    said = "read-only transaction.*; it is a standby, or default_transaction_read_only is on"
    try:
        postgres.execute(read_only)
        with pytest.raises(StorageError, match=said):
            open_storage(url)
        postgres.execute(read_only.replace("= on", "= off"))
        search.create(toy_spec(trials=2), storage=url, checkpoints=str(tmp_path))
        postgres.execute(read_only)
        storage = open_storage(url, retry=Retry(limit_seconds=30.0))  # as of a command
        study = open_study("toy", storage)
        assert study.status().budget == 2
        with pytest.raises(StorageError, match=said):
            study.extend(trials=1)
        storage.close()
    finally:
        postgres.drop_database(url)


@pytest.mark.parametrize("name", ["half \udc80", "nul \0"])
def test_a_name_that_no_database_can_be_asked_for(storage_url: str, name: str) -> None:
    open_storage(storage_url).close()
    with pytest.raises(StudyNotFound, match="no study named"):
        search.open(name, storage=storage_url)


def test_sqlite_settings(sqlite_url: str) -> None:
    storage = open_storage(sqlite_url)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0) >= 10_000
    storage.close()


def test_a_damaged_file_is_noticed_although_what_is_open_goes_on(
    sqlite_url: str, tmp_path: Path
) -> None:
    storage = open_storage(sqlite_url)
    optuna.create_study(storage=storage.optuna)
    assert storage.still_there()
    file = Path(sa.make_url(sqlite_url).database or "")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    pages = file.stat().st_size // 4096
    os.truncate(file, pages // 2 * 4096)
    with pytest.raises(StorageError, match="is damaged .*; restore it"):
        storage.still_there()
    storage.close()


def test_a_connection_in_use_while_the_others_are_replaced_is_closed_after_it(
    opened: Storage,
) -> None:
    with opened.engine.connect() as connection:
        used = connection.connection.dbapi_connection
        assert used is not None
        opened.optuna.ping()  # as another thread does that lost its own connection
        connection.execute(sa.text("SELECT 1"))
    with pytest.raises(Exception, match="closed"):
        used.cursor().execute("SELECT 1")
    with opened.engine.connect() as connection:
        kept = connection.connection.dbapi_connection
    with opened.engine.connect() as connection:
        assert connection.connection.dbapi_connection is kept


def test_survives_pickling(opened: Storage) -> None:
    study_id = opened.optuna.create_new_study(MAXIMIZE, "x")
    again = pickle.loads(pickle.dumps(opened.optuna))
    assert again.get_study_id_from_name("x") == study_id
    again.rdb.engine.dispose()


def _open_and_create(url: str, start: float) -> str:
    while time.time() < start:
        time.sleep(0.001)
    storage = open_storage(url)
    try:
        storage.optuna.create_new_study(MAXIMIZE, "x")
        return "created"
    except optuna.exceptions.DuplicatedStudyError:
        return "found"
    finally:
        storage.close()


@pytest.mark.slow
def test_many_processes_create_the_schema_at_once(storage_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(6) as processes:
        processes.map(time.sleep, [0.01] * 12)  # all are up
        start = time.time() + 0.3
        answers = processes.starmap(_open_and_create, [(storage_url, start)] * 6, chunksize=1)
    assert sorted(answers) == ["created"] + ["found"] * 5


def _finish(url: str, trial_ids: list[int], state: TrialState, together: Any, won: Any) -> None:
    storage = open_storage(url)
    for trial_id in trial_ids:
        together.wait(60)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            storage.optuna.set_trial_state_values(trial_id, state, [1.0])
            won.put(trial_id)
    storage.close()


@pytest.mark.slow
def test_two_processes_cannot_both_finish_a_trial(storage_url: str) -> None:
    storage = open_storage(storage_url)
    study_id = storage.optuna.create_new_study(MAXIMIZE, "x")
    trial_ids = [storage.optuna.create_new_trial(study_id) for _ in range(30)]
    context = multiprocessing.get_context("spawn")
    together, won = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_finish, args=(storage_url, trial_ids, state, together, won))
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    for process in processes:
        process.start()
    winners = [won.get(timeout=60) for _ in trial_ids]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(winners) == trial_ids
    assert won.empty()
    storage.close()


def test_batch_is_one_transaction(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    trial = study.ask()
    commits: list[object] = []
    sa.event.listen(opened.engine, "commit", commits.append)
    with opened.optuna.batch():
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_user_attr("a", [1, 2])
        trial.report(0.5, 1)
        trial.set_user_attr("a", [1, 2, 3])
        before = len(commits)
        assert opened.optuna.rdb.get_trial(trial._trial_id).params == {}
        commits.clear()
    assert before <= 3  # reads of the sampler
    assert len(commits) == 1
    frozen = opened.optuna.rdb.get_trial(trial._trial_id)
    assert frozen.params == {"x": x}
    assert frozen.user_attrs == {"a": [1, 2, 3]}
    assert frozen.intermediate_values == {1: 0.5}


def test_batch_on_a_finished_trial_writes_nothing(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    first, second = study.ask(), study.ask()
    study.tell(second, 1.0)
    with (
        pytest.raises(optuna.exceptions.UpdateFinishedTrialError),
        opened.optuna.batch(),
    ):
        first.set_user_attr("a", 1)
        second.set_user_attr("a", 1)
    assert all(not trial.user_attrs for trial in study.trials)


def test_batch_that_raises_writes_nothing(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    trial = study.ask()
    with pytest.raises(ZeroDivisionError), opened.optuna.batch():
        trial.set_user_attr("a", 1)
        raise ZeroDivisionError
    trial.set_user_attr("b", 2)
    assert study.trials[0].user_attrs == {"b": 2}


@pytest.mark.slow
def test_two_connections_at_most(postgres_url: str) -> None:
    storage = open_storage(postgres_url)
    study_id = storage.optuna.create_new_study(MAXIMIZE, "x")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                storage.optuna.create_new_trial(study_id)
                storage.optuna.get_all_trials(study_id)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert storage.engine.pool.checkedin() <= 2  # type: ignore[attr-defined]
    assert [t.number for t in storage.optuna.get_all_trials(study_id)] == list(range(40))
    storage.close()


def test_sqlite_reader_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    writer, reader = open_storage(sqlite_url), open_storage(sqlite_url)
    study_id = writer.optuna.create_new_study(MAXIMIZE, "x")
    seen = writer.write(lambda session: reader.optuna.get_all_trials(study_id))
    assert seen == []
    writer.close()
    reader.close()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_whoever_may_only_read_is_told_so(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path
) -> None:
    url: str = request.getfixturevalue(f"{engine}_url")
    mine = open_storage(url)
    optuna.create_study(study_name="s", storage=mine.optuna)
    reader = f"reader_{uuid.uuid4().hex[:8]}"
    if engine == "sqlite":
        url = f"sqlite:///file:{tmp_path / 'study.db'}?mode=ro&uri=true"
    else:
        with mine.engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {reader} LOGIN")
            connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
        url = sa.make_url(url).set(username=reader).render_as_string(hide_password=False)
    storage = open_storage(url)
    assert [study.study_name for study in storage.optuna.get_all_studies()] == ["s"]
    for write in (
        lambda: storage.optuna.set_study_user_attr(1, "a", 1),
        lambda: storage.write(lambda session: session.execute(schema.study.delete())),
    ):
        with pytest.raises(StorageError, match="the database rejected the statement") as caught:
            write()
        assert "\n" not in str(caught.value)
    storage.close()
    if engine == "postgres":
        with mine.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")
    mine.close()


def test_a_new_file_is_its_owners_alone_and_another_stays_as_it_is(tmp_path: Path) -> None:
    new, old, target = tmp_path / "new.db", tmp_path / "old.db", tmp_path / "target.db"
    link = tmp_path / "link.db"
    link.symlink_to(target)
    old.touch(mode=0o644)
    old.chmod(0o644)
    for path in (new, old, link):
        storage = open_storage(f"sqlite:///{path}")
        storage.write(lambda session: session.execute(sa.text("DELETE FROM trials")))
        modes = {file.stat().st_mode & 0o777 for file in tmp_path.glob(f"{path.stem}.db*")}
        assert modes == {0o644 if path == old else 0o600}
        storage.close()
    assert target.stat().st_mode & 0o777 == 0o600
