"""What is lost, stopped or taken away beneath an open storage: waited for, or one line."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from faults import Proxy
from optuna.study import StudyDirection
from sqlalchemy import orm

from search.errors import StorageError
from search.storage import Retry, Storage, is_missing_file, open_storage, schema

LEASE_S = 3.0
MAXIMIZE = [StudyDirection.MAXIMIZE]


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    proxy = Proxy(postgres_url)
    yield proxy
    proxy.close()


def opened(url: str, retry: Retry | None = None) -> Storage:
    storage = open_storage(url, retry=retry)
    storage.bound_by(LEASE_S)
    return storage


def insert_one(session: orm.Session) -> None:
    session.execute(schema.study.insert().values(uid="x", elapsed=0))


def add_one(session: orm.Session) -> float:
    session.execute(schema.study.update().values(elapsed=schema.study.c.elapsed + 1))
    return float(session.scalar(sa.select(schema.study.c.elapsed)) or 0)


@pytest.mark.slow
def test_a_lost_answer_becomes_an_ordinary_outage(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    storage = opened(proxy.url)
    storage.write(insert_one)
    swallowed = []

    def work(session: orm.Session) -> float:
        value = add_one(session)
        if not swallowed:
            swallowed.append(proxy.swallow())
        return value

    assert storage.write(work) == 1
    away, back = caplog.messages
    assert "the database is away (the server did not answer for 2 s" in away
    assert "is back" in back
    storage.close()


@pytest.mark.slow
def test_a_process_that_is_to_leave_waits_for_no_answer(proxy: Proxy) -> None:
    give_up = threading.Event()
    storage = open_storage(proxy.url, retry=Retry(give_up=give_up))  # an answer may take 15 s
    storage.optuna.get_all_studies()
    proxy.freeze()
    threading.Timer(0.3, give_up.set).start()
    started = time.monotonic()
    with pytest.raises(StorageError, match="stopped while waiting for the database"):
        storage.optuna.get_all_studies()
    assert time.monotonic() - started < 10  # as long as a process may take to leave
    storage.close()


def test_a_read_whose_connection_was_lost_in_the_pool_is_made_again(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = opened(postgres_url)
    with storage.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        descriptor = driver.fileno()
    os.close(descriptor)
    assert storage.optuna.get_all_studies() == []
    assert caplog.messages == []
    storage.close()


@pytest.mark.slow
@pytest.mark.parametrize("through", ["postgres", "pgbouncer"])
def test_others_go_on_when_one_stops_inside_a_transaction(
    request: pytest.FixtureRequest, postgres_url: str, through: str
) -> None:
    url = postgres_url
    if through == "pgbouncer":
        bouncer: str = request.getfixturevalue("pgbouncer")
        url = sa.make_url(bouncer).set(database=sa.make_url(url).database).render_as_string(False)
    stopped, other = opened(url), opened(url)
    stopped.write(insert_one)
    inside, go_on = threading.Event(), threading.Event()

    def work(session: orm.Session) -> float:
        value = add_one(session)
        if not inside.is_set():
            inside.set()
            go_on.wait(60)
        return value

    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(stopped.write(work)))
    thread.start()
    assert inside.wait(30)
    assert other.write(add_one) == 1
    go_on.set()
    thread.join(30)
    assert results == [2]  # what was taken back is done again
    stopped.close()
    other.close()


def test_a_session_notices_a_vanished_client(proxy: Proxy) -> None:
    storage = opened(proxy.url)
    with storage.engine.connect() as connection:
        for name, least in (("tcp_keepalives_idle", 1), ("tcp_user_timeout", 1)):
            shown = connection.exec_driver_sql(
                f"SELECT setting::int, source FROM pg_settings WHERE name = '{name}'"
            ).one()
            assert shown.source == "session"
            assert shown.setting >= least or shown.setting == 0  # 0: over a Unix socket
    storage.close()


# Files and databases that are taken away.


def test_a_deleted_or_replaced_file_is_one_line(sqlite_url: str, tmp_path: Path) -> None:
    file, copy = tmp_path / "study.db", tmp_path / "copy.db"
    for taken in ("deleted", "replaced"):
        storage = open_storage(sqlite_url)
        assert storage.still_there()
        study_id = storage.optuna.create_new_study(MAXIMIZE, taken)
        shutil.copy(file, copy)
        file.unlink()
        if taken == "replaced":
            copy.rename(file)
        assert not storage.still_there()
        for call in (
            lambda: storage.optuna.set_study_user_attr(study_id, "a", 1),  # noqa: B023
            lambda: storage.optuna.get_all_studies(),  # noqa: B023
            lambda: storage.read(lambda session: session.scalar(sa.text("SELECT 1"))),  # noqa: B023
        ):
            with pytest.raises(StorageError, match=r"study\.db was deleted or replaced") as caught:
                call()
            assert "\n" not in str(caught.value)
        storage.engine.dispose()
        assert file.exists() == (taken == "replaced")  # no empty file in its place


def test_a_database_made_anew_is_another_one(postgres: Any, postgres_url: str) -> None:
    storage = open_storage(postgres_url)
    assert storage.still_there()
    postgres.drop_database(postgres_url)
    postgres.execute(f"CREATE DATABASE {sa.make_url(postgres_url).database}")
    assert not storage.still_there()
    with pytest.raises(StorageError, match="rejected the statement") as caught:
        storage.optuna.get_all_studies()
    assert "\n" not in str(caught.value)
    storage.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "it is a directory"),
        ("file/study.db", "cannot create the directory"),
        ("nothing\0here.db", "cannot"),
    ],
)
def test_a_path_that_cannot_be_opened_is_one_line(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=words) as caught:
        open_storage(f"sqlite:///{tmp_path / path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 300 + ".db", "a/" * 3000 + "a.db"])
def test_a_name_that_no_file_can_have_is_one_short_line(name: str) -> None:
    for use in (open_storage, is_missing_file):
        with pytest.raises(StorageError, match="File name too long|file name too long") as refused:
            use(f"sqlite:///{name}")
        assert len(str(refused.value)) < 600
        assert "\n" not in str(refused.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("path", ["/proc/study.db", "/proc/self/study.db", "/dev/full"])
def test_a_place_that_takes_no_file_is_one_line(path: str) -> None:
    with pytest.raises(StorageError, match="cannot open|no SQLite|not an SQLite") as caught:
        open_storage(f"sqlite:///{path}")
    assert "\n" not in str(caught.value)
