"""What can be opened as a storage, and the one line for what cannot."""

import uuid
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from toy import toy_spec

import search
from search.errors import StorageError, StudyNotFound
from search.storage import Retry, open_storage, schema
from search.study import open_study


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
