"""Opens the database of a study: SQLite, Postgres, or a private Postgres (`embedded`).

Optuna's storage and the ledger share one engine of at most two connections per process: one for
the thread that runs trials, one for the thread that beats.
"""

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import exc, orm

from search.errors import StorageError
from search.storage import schema
from search.storage.optuna_cache import OptunaStorage
from search.storage.optuna_rdb import connect
from search.storage.retry import Retry, driver_error, first_line, is_transient

__all__ = ["SHORT_LOCK_WAIT_MS", "Retry", "Storage", "is_missing_file", "open_storage"]

T = TypeVar("T")

CONNECTIONS = 2  # per process; on a server the second is closed after use, as most stand idle
CONNECT_S = 5  # seconds until an unreachable server counts as such
LOCK_WAIT_MS = 30_000  # SQLite waits this long for a lock before it reports one
#: The same in a process that has to hear signals, which the main thread does not while it waits in
#: SQLite; `Retry` then waits on.
SHORT_LOCK_WAIT_MS = 1_000
OPEN_S = 60.0  # seconds for others to finish creating the schema, or to leave us a connection
OPEN_PAUSE_S = 0.2

#: What a server, or a file, answers that cannot take us yet.
_NOT_YET = ("already exists", "starting up", "connection slots", "too many clients")

_writing: ContextVar[bool] = ContextVar("writing", default=False)


class Storage:
    """An open database.

    Attributes:
        optuna: the storage to hand to Optuna.
        engine: the engine that Optuna and the ledger share.
        dialect: "sqlite" or "postgresql".
        retry: how this process waits for the database.
    """

    def __init__(self, rdb: RDBStorage, retry: Retry) -> None:
        self.engine: sa.Engine = rdb.engine
        self.dialect = self.engine.dialect.name
        self.retry = retry
        self.optuna = OptunaStorage(rdb, retry, writing, partial(_reopen, rdb.url))

    @property
    def address(self) -> str:
        """The full URL, password included: for child processes, never for a message."""
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def url(self) -> str:
        """The URL to show."""
        return self.engine.url.render_as_string(hide_password=True)

    def write(
        self,
        work: Callable[[orm.Session], T],
        *,
        settled: Callable[[orm.Session], T | None] | None = None,
        give_up: threading.Event | None = None,
        longest_pause_s: float = 5.0,
    ) -> T:
        """Return `work(session)`, one transaction that is repeated as a whole while it fails.

        Args:
            settled: is asked first when a repetition follows a lost connection: it returns the
                result when the attempt before was committed after all, else None.
        """

        def attempt(repeated: bool) -> T:
            with writing(), orm.Session(self.engine) as session, session.begin():
                if repeated and settled is not None:
                    result = settled(session)
                    if result is not None:
                        return result
                return work(session)

        return self.retry.call(
            attempt, self.optuna.ping, give_up=give_up, longest_pause_s=longest_pause_s
        )

    def read(self, work: Callable[[orm.Session], T]) -> T:
        """Return `work(session)`; the session only reads."""

        def attempt(_: bool) -> T:
            with orm.Session(self.engine) as session:
                return work(session)

        return self.retry.call(attempt, self.optuna.ping)

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self.optuna.rdb.remove_session()
        self.engine.dispose()

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"


def open_storage(
    url: str, *, retry: Retry | None = None, lock_wait_ms: int = LOCK_WAIT_MS
) -> Storage:
    """Open a database and create Optuna's tables and ours where they are missing.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host/database`, or `embedded`.
        retry: how to wait when the database goes away later.
        lock_wait_ms: how long SQLite itself waits for a lock, milliseconds.

    Raises:
        StorageError: of another kind, unreachable, or written by another version of Optuna.
    """
    if url == "embedded":
        from search.storage.embedded import start

        url = start()
    parsed = _parse(url)
    rdb = _open(parsed, parsed.render_as_string(hide_password=True), lock_wait_ms)
    if parsed.get_backend_name() == "sqlite":
        sa.event.listen(rdb.engine, "connect", _on_sqlite_connect)
        sa.event.listen(rdb.engine, "begin", _on_sqlite_begin)
        rdb.remove_session()
        rdb.engine.dispose()  # what is open was opened without our settings
    return Storage(rdb, retry or Retry())


def is_missing_file(url: str) -> bool:
    """Whether a URL names an SQLite file that does not exist, which `open_storage` would create.

    Raises:
        StorageError: it is no URL of a storage.
    """
    if url == "embedded":
        return False
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite" or _is_uri(parsed):
        return False
    return not Path(str(parsed.database)).exists()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Transactions begun inside will write; SQLite then takes the write lock at their start.

    Otherwise a transaction that reads before it writes decides upon what it read before others
    wrote, or fails with "database is locked" whatever the timeout.
    """
    token = _writing.set(True)
    try:
        yield
    finally:
        _writing.reset(token)


def _reopen(url: str) -> OptunaStorage:
    return open_storage(url).optuna


def _parse(url: str) -> sa.URL:
    if url.startswith("grpc://"):
        raise StorageError(
            f"a gRPC proxy cannot carry the ledger, got {url!r}; "
            "give the Postgres itself, with PgBouncer before it when connections run out"
        )
    known = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or embedded"
    if url.startswith("postgres://"):
        url = "postgresql" + url.removeprefix("postgres")
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise StorageError(f"a storage is {known}, got something that is no URL") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StorageError(f"a storage is {known}, got one of kind {parsed.drivername!r}")
    if not parsed.database or parsed.database == ":memory:":
        raise StorageError(
            "a study must outlive the process, got an SQLite URL without a file; "
            "write sqlite:///FILE"
        )
    return parsed


def _engine_kwargs(url: sa.URL, lock_wait_ms: int) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"pool_timeout": 60}
    if url.get_backend_name() == "sqlite":
        kwargs |= {"pool_size": CONNECTIONS, "max_overflow": 0, "poolclass": sa.pool.QueuePool}
        kwargs["connect_args"] = {"timeout": lock_wait_ms / 1000}
    else:
        kwargs |= {"pool_size": 1, "max_overflow": CONNECTIONS - 1, "pool_pre_ping": True}
        kwargs["connect_args"] = {
            # PgBouncer's transaction mode gives each transaction another server connection, which
            # does not know the statements prepared on the one before.
            "prepare_threshold": None,
            "connect_timeout": CONNECT_S,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
            "application_name": f"fmnist-hpo {os.getpid()}",
        }
    return kwargs


def _open(url: sa.URL, shown: str, lock_wait_ms: int) -> RDBStorage:
    """Create what is missing.

    Processes that collide in this, find no room, or lose a server that had answered, try again.
    """
    answered = threading.Event()
    deadline = time.monotonic() + OPEN_S
    pause = OPEN_PAUSE_S
    while True:
        engine: sa.Engine | None = None
        try:
            if url.get_backend_name() == "sqlite":
                _prepare_file(url)
            engine = sa.create_engine(url, **_engine_kwargs(url, lock_wait_ms))
            if url.get_backend_name() == "postgresql":
                # first of all, as SQLAlchemy itself fails on the texts of such a database
                sa.event.listen(engine, "connect", _on_postgres_connect, insert=True)
            sa.event.listen(engine, "connect", lambda *_: answered.set())
            rdb = connect(engine)
            schema.metadata.create_all(engine)
            return rdb
        except StorageError:
            if engine is not None:
                engine.dispose()
            raise
        except OSError as error:
            raise StorageError(f"cannot create the directory of {shown}: {error}") from error
        except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            assert engine is not None or url.get_backend_name() == "sqlite"
            if engine is not None:
                engine.dispose()
            went_away = answered.is_set() and is_transient(error)
            if time.monotonic() > deadline or not (went_away or _may_work_later(error)):
                line = first_line(error)
                if url.password:
                    line = line.replace(str(url.password), "***")
                raise StorageError(
                    f"cannot open {shown}: {line}; is it running, and the URL right?"
                ) from error
            time.sleep(pause * random.random())
            pause = min(2 * pause, 2.0)


def _may_work_later(error: Exception) -> bool:
    """Whether somebody else just created the same table, or the server has no room for us yet."""
    if isinstance(error, exc.IntegrityError):
        return True
    text = first_line(error)
    if any(words in text for words in _NOT_YET):
        return True
    driver = driver_error(error)
    unreachable = not isinstance(driver, sqlite3.Error) and getattr(driver, "sqlstate", 0) is None
    return is_transient(error) and not unreachable


def _is_uri(url: sa.URL) -> bool:
    """Whether SQLite itself is to read a file's name, with options, as a URI."""
    return str(url.database).startswith("file:")


def _prepare_file(url: sa.URL) -> None:
    if _is_uri(url):
        return
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    # Kept in the file: readers never wait for the writer, nor the writer for readers.
    with contextlib.closing(sqlite3.connect(file, timeout=LOCK_WAIT_MS / 1000)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            raise exc.OperationalError("PRAGMA journal_mode=WAL", None, error) from error
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{file} is not an SQLite database; give another file") from error


def _on_postgres_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
    encoding = connection.info.parameter_status("server_encoding")
    if encoding == "SQL_ASCII":  # texts then are bytes of no known meaning
        name = connection.info.dbname
        raise StorageError(
            f"need a Postgres database in UTF8, got {name!r} in {encoding}; create one with "
            f"CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _on_sqlite_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
    connection.isolation_level = None  # we begin transactions ourselves, below
    connection.execute("PRAGMA synchronous=NORMAL")  # with WAL: safe against a killed process


def _on_sqlite_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writing.get() else "BEGIN")
