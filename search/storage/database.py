"""Opens the database of a study: SQLite, Postgres, or a private Postgres (`embedded`).

Optuna's storage and the ledger share one engine of at most two connections per process: one for
the thread that runs trials, one for the thread that sends heartbeats.
"""

import contextlib
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import exc, orm

from search.address import redact, shown
from search.errors import StorageError
from search.storage.engines import postgres, sqlite
from search.storage.engines.failure import (
    Failure,
    driver_error,
    failure_of,
    first_line,
    is_read_only,
    remedy,
)
from search.storage.migrations import migrate
from search.storage.optuna_cache import OptunaStorage
from search.storage.optuna_rdb import connect
from search.storage.retry import Retry
from search.system import require_linux

__all__ = ["LOCK_WAIT_MS", "SHORT_LOCK_WAIT_MS", "Storage", "is_missing_file", "open_storage"]

T = TypeVar("T")

CONNECTIONS = 2  # per process
LOCK_WAIT_MS = sqlite.LOCK_WAIT_MS
#: How long SQLite waits for a lock in a process that has to hear signals, which the main thread
#: does not while it waits in SQLite; `Retry` then waits on.
SHORT_LOCK_WAIT_MS = 1_000
OPEN_S = 60.0  # seconds for others to finish creating the schema, or to leave us a connection
OPEN_PAUSE_S = 0.2

#: What a server, or a file, answers that cannot take us yet.
_NOT_YET = ("already exists", "starting up", "connection slots", "too many clients")

_writing: ContextVar[bool] = ContextVar("writing", default=False)
#: Whether a transaction that writes waits until its change is on the disk.
_durable: ContextVar[bool] = ContextVar("durable", default=True)


class Storage:
    """An open database.

    Attributes:
        optuna: the storage to hand to Optuna.
        engine: the engine that Optuna and the ledger share.
        dialect: "sqlite" or "postgresql".
        retry: how this process waits for the database.
    """

    def __init__(self, rdb: RDBStorage, retry: Retry, place: "_Place") -> None:
        self.engine: sa.Engine = rdb.engine
        self.dialect = self.engine.dialect.name
        self.retry = retry
        self.retry.address = self.address
        self.optuna = OptunaStorage(rdb, retry, writing, partial(_reopen, rdb.url))
        self._place = place
        self._number = self._database_number()

    @property
    def address(self) -> str:
        """The full URL, password included: for child processes, never for a message."""
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def url(self) -> str:
        """The URL to show."""
        return shown(self.address)

    def bound_by(self, lease_seconds: float) -> None:
        """Let no wait for a lock, an answer or a stopped client outlast a lease."""
        if isinstance(self._place, postgres.Limits) and self._place.follow(lease_seconds):
            self.engine.dispose()  # connections made from now on take the new limits

    def still_there(self) -> bool:
        """Whether the database that was opened is the one at its address now.

        Raises:
            StorageError: it does not answer within the time that `retry` allows, or an SQLite file
                is damaged.
        """
        if isinstance(self._place, sqlite.File):
            there = self._place.is_there()
            if there:
                self._place.check_whole()
            return there
        self.engine.dispose()  # a connection may outlive the database's place at the address
        return self._database_number() == self._number

    def _database_number(self) -> int | None:
        """The number that a Postgres server gives to a database when it is created."""
        if self.dialect == "sqlite":
            return None
        number = sa.text("SELECT oid FROM pg_database WHERE datname = current_database()")
        return int(self.read(lambda session: session.scalar(number)) or 0)

    def write(
        self,
        work: Callable[[orm.Session], T],
        *,
        settled: Callable[[orm.Session], T | None] | None = None,
        give_up: threading.Event | None = None,
        longest_pause_s: float = 5.0,
        durable: bool = True,
    ) -> T:
        """Return `work(session)`, one transaction that is repeated as a whole while it fails.

        Args:
            settled: is asked first when a repetition follows a lost connection: it returns the
                result when the attempt before was committed after all, else None.
            durable: whether the change must survive a crash of the server. Without it Postgres does
                not wait for its disk, and a crash may undo the last second; SQLite ignores it.
        """

        def attempt(repeated: bool) -> T:
            with writing(durable=durable), orm.Session(self.engine) as session, session.begin():
                if repeated and settled is not None:
                    result = settled(session)
                    if result is not None:
                        return result
                return work(session)

        return self.retry.call(
            attempt,
            self.optuna.ping,
            writes=True,
            give_up=give_up,
            longest_pause_s=longest_pause_s,
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


#: What is particular to one kind of database: the file, or the limits of the server's sessions.
_Place = sqlite.File | postgres.Limits


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
        SearchError: this is not Linux.
    """
    require_linux()
    if url == "embedded":
        from search.storage.engines.embedded import start

        url = start()
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        file = sqlite.File(parsed)
        kwargs = sqlite.engine_kwargs(CONNECTIONS, lock_wait_ms)
        rdb = _open(parsed, kwargs, prepare=file.prepare)
        file.listen(rdb.engine, _writing.get)
        rdb.remove_session()
        rdb.engine.dispose()  # what is open was opened without our settings
        return Storage(rdb, retry or Retry(), file)
    postgres.check_options(parsed)
    limits = postgres.Limits()
    kwargs = postgres.engine_kwargs(CONNECTIONS, parsed)
    listen = partial(postgres.listen, limits=limits, is_writing=_writing.get, durable=_durable.get)
    rdb = _open(parsed, kwargs, listen=listen)
    return Storage(rdb, retry or Retry(), limits)


def is_missing_file(url: str) -> bool:
    """Whether a URL names an SQLite file that does not exist, which `open_storage` would create.

    Raises:
        StorageError: it is no URL of a storage, or nobody can tell.
    """
    if url == "embedded":
        return False
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite":
        return False
    return sqlite.File(parsed).is_missing()


@contextlib.contextmanager
def writing(*, durable: bool = True) -> Iterator[None]:
    """Transactions begun inside will write; SQLite then takes the write lock at their start.

    Otherwise a transaction that reads before it writes decides upon what it read before others
    wrote, or fails with "database is locked" whatever the timeout.
    """
    tokens = _writing.set(True), _durable.set(durable)
    try:
        yield
    finally:
        _writing.reset(tokens[0])
        _durable.reset(tokens[1])


def _reopen(url: str) -> OptunaStorage:
    return open_storage(url).optuna


def _parse(url: str) -> sa.URL:
    if url.startswith("grpc://"):
        raise StorageError(
            f"a gRPC proxy cannot carry the ledger, got {shown(url)!r}; "
            "give the Postgres itself, with PgBouncer before it when connections run out"
        )
    known = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or embedded"
    if url.startswith("postgres://"):
        url = "postgresql" + url.removeprefix("postgres")
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        # Without its cause, whose text may hold the password.
        raise StorageError(
            f"a storage is {known}, got something that is no URL; give one of these"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StorageError(
            f"a storage is {known}, got one of kind {parsed.drivername!r}; give one of these"
        )
    if parsed.get_driver_name() != "pysqlite":
        driver = parsed.get_driver_name()
        raise StorageError(f"a storage is {known}, got SQLite by {driver!r}; leave the driver out")
    sqlite.check_options(parsed)
    if not parsed.database or parsed.database == ":memory:":
        raise StorageError(
            "a study must outlive the process, got an SQLite URL without a file; "
            "write sqlite:///FILE"
        )
    return parsed


def _open(
    url: sa.URL,
    kwargs: dict[str, Any],
    *,
    prepare: Callable[[], None] = lambda: None,
    listen: Callable[[sa.Engine], None] = lambda engine: None,
) -> RDBStorage:
    """Create what is missing.

    Processes that collide in this, find no room, or lose a server that had answered, try again.

    Args:
        kwargs: of `sqlalchemy.create_engine`.
        prepare: is called before each try.
        listen: is called with each engine before it connects.
    """
    address = url.render_as_string(hide_password=False)
    answered = threading.Event()
    deadline = time.monotonic() + OPEN_S
    pause = OPEN_PAUSE_S
    while True:
        engine: sa.Engine | None = None
        try:
            prepare()
            engine = sa.create_engine(url, **kwargs)
            _close_stranded(engine)
            listen(engine)
            sa.event.listen(engine, "connect", lambda *_: answered.set())
            rdb = connect(engine)
            migrate(engine)
            return rdb
        except Exception as error:
            if engine is not None:
                engine.dispose()
            if isinstance(error, StorageError):
                raise
            server = url.get_backend_name() != "sqlite"  # whose restart takes seconds
            lost = failure_of(error) in (Failure.AWAY, Failure.BUSY)
            went_away = server and answered.is_set() and lost and not is_read_only(error)
            if time.monotonic() > deadline or not (went_away or _may_work_later(error)):
                raise StorageError(
                    f"cannot open {shown(address)}: {redact(first_line(error), address)}; "
                    f"{remedy(error)}"
                ) from error
            time.sleep(pause * random.random())
            pause = min(2 * pause, 2.0)


def _close_stranded(engine: sa.Engine) -> None:
    """Close each connection that comes back to a pool which the engine has replaced since.

    `Engine.dispose` closes the idle ones and replaces the pool. What another thread has in use then
    would stay open until the garbage collector finds it.
    """

    @sa.event.listens_for(engine, "do_connect", insert=True)
    def on_connect(_: Any, record: Any, *__: Any) -> None:
        record.info["pool"] = weakref.ref(engine.pool)

    @sa.event.listens_for(engine, "checkin")
    def on_checkin(connection: Any, record: Any) -> None:
        if connection is not None and record.info["pool"]() is not engine.pool:
            record.invalidate()


def _may_work_later(error: Exception) -> bool:
    """Whether somebody else just created the same table, or the server has no room for us yet."""
    if isinstance(error, exc.IntegrityError):
        return True
    if isinstance(error, sqlite3.OperationalError):  # somebody else has the file locked
        return True
    text = first_line(error)
    if any(words in text for words in _NOT_YET):
        return True
    driver = driver_error(error)
    answers = isinstance(driver, sqlite3.Error) or getattr(driver, "sqlstate", None) is not None
    return answers and failure_of(error) is Failure.BUSY
