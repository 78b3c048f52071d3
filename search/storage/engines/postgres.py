"""Connections to PostgreSQL whose every wait has an end, on this side and on the server's.

A worker that is stopped, or whose machine vanishes, in the middle of a transaction keeps its locks,
and a lost answer is waited for, until somebody's time runs out. All these times follow from the
lease, so that the others go on before it has run out.

The limits of a transaction are set inside it (SET LOCAL), as PgBouncer's transaction mode gives
each transaction another session of the server.
"""

import os
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import sqlalchemy as sa

from search.errors import StorageError, nearest
from search.storage.retry import giving_up

__all__ = ["Limits", "engine_kwargs", "listen"]

CONNECT_S = 5  # seconds until an unreachable server counts as such
LEAVE_S = 2.0  # seconds that a call may still take in a process that was asked to leave
LEASE_S = 30.0  # until `Limits.follow` has been called


class Limits:
    """How long anybody waits for anybody, in seconds.

    Attributes:
        transaction: for a lock, for a statement that writes, and for a client that is idle inside a
            transaction; kept by the server.
        answer: for the next byte of the server's answer; kept by the client.
    """

    def __init__(self) -> None:
        self.follow(LEASE_S)

    def follow(self, lease_seconds: float) -> bool:
        """Take the limits from a lease; whether that changed them."""
        before = getattr(self, "transaction", None)
        self.transaction = max(1.0, lease_seconds / 3)
        self.answer = max(2.0, lease_seconds / 2)
        return before != self.transaction

    @property
    def of_transaction(self) -> str:
        """The statement that sets the server's limits on the transaction it is in."""
        milliseconds = round(self.transaction * 1000)
        return "; ".join(
            f"SET LOCAL {name} = {milliseconds}"
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        )

    @property
    def of_session(self) -> str:
        """The statement that lets the server notice a client whose machine has vanished."""
        keepalive = self.keepalive
        return (
            f"SET tcp_keepalives_idle = {keepalive['keepalives_idle']}; "
            f"SET tcp_keepalives_interval = {keepalive['keepalives_interval']}; "
            f"SET tcp_keepalives_count = {keepalive['keepalives_count']}; "
            f"SET tcp_user_timeout = {keepalive['tcp_user_timeout']}"
        )

    @property
    def keepalive(self) -> dict[str, int]:
        """libpq's parameters that let the client notice a server whose machine has vanished."""
        return {
            "keepalives_idle": max(1, round(self.transaction)),
            "keepalives_interval": max(1, round(self.transaction / 3)),
            "keepalives_count": 3,
            "tcp_user_timeout": round(self.answer * 1000),  # milliseconds
        }


def check_options(url: sa.URL) -> None:
    """Refuse an option of a URL that libpq does not know. It judges the values when it connects.

    Raises:
        StorageError: the message names the option.
    """
    from psycopg.pq import Conninfo  # not before: a command on an SQLite file has no need of it

    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    for name in url.query:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else "leave it out"
            raise StorageError(f"a PostgreSQL URL has no option {name!r}; {hint}")


def engine_kwargs(connections: int, url: sa.URL) -> dict[str, Any]:
    """Arguments of `sqlalchemy.create_engine`; what the URL sets itself is left to it."""
    ours = {
        # PgBouncer's transaction mode gives each transaction another server connection, which
        # does not know the statements prepared on the one before.
        "prepare_threshold": None,
        "connect_timeout": CONNECT_S,
        "application_name": f"fmnist-hpo {os.getpid()}",
    }
    return {
        "pool_size": 1,  # the others are closed after use, as most stand idle
        "max_overflow": connections - 1,
        "pool_pre_ping": True,
        "connect_args": {name: value for name, value in ours.items() if name not in url.query},
    }


def listen(
    engine: sa.Engine,
    limits: Limits,
    is_writing: Callable[[], bool],
    durable: Callable[[], bool],
) -> None:
    """Give an engine's connections these limits.

    Args:
        is_writing: returns whether the transaction that begins will write.
        durable: returns whether its commit waits until the change is on the server's disk.
    """
    sa.event.listen(engine, "do_connect", partial(_connect, limits))
    # First of all, as SQLAlchemy itself fails on the texts of a database without an encoding.
    sa.event.listen(engine, "connect", partial(_on_connect, limits), insert=True)

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        if is_writing():  # one that only reads holds no lock that another waits for
            statement = limits.of_transaction
            if not durable():
                statement += "; SET LOCAL synchronous_commit = off"
            connection.exec_driver_sql(statement)

    @sa.event.listens_for(engine, "handle_error")
    def on_error(context: sa.engine.ExceptionContext) -> None:
        # A connection that fails its ping for whatever reason is replaced. psycopg reports one
        # whose socket was closed beneath it as a ProgrammingError.
        if context.is_pre_ping:
            context.is_disconnect = True


def _connect(
    limits: Limits, dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]
) -> Any:
    del dialect, record
    # Imported here, as a command on an SQLite file has no need of it.
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """One that does not wait for an answer for ever."""

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_bounded(gen, limits), *args, **kwargs)
            except _Silence as silence:
                self.pgconn.finish()  # closes the socket; the connection counts as lost
                raise psycopg.OperationalError(str(silence)) from None
            except UnicodeError:  # a text that cannot be sent; the connection is whole
                raise
            except (OSError, ValueError) as error:  # its socket was closed by somebody else
                self.pgconn.finish()
                raise psycopg.OperationalError(f"the connection is lost: {error}") from error

    return Connection.connect(*arguments, **{**limits.keepalive, **parameters})


class _Silence(Exception):
    """The server has not answered in time."""


def _bounded(gen: Generator[Any, Any, Any], limits: Limits) -> Generator[Any, Any, Any]:
    """psycopg's generator of one exchange with the server, ended after too long a silence.

    It is resumed with what the socket is ready for, or, several times a second, with nothing.
    """
    heard = time.monotonic()
    leave: float | None = None
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                heard = now
            elif now - heard > limits.answer:
                raise _Silence(f"the server did not answer for {limits.answer:.0f} s")
            elif giving_up():
                leave = now + LEAVE_S if leave is None else leave
                if now > leave:
                    raise _Silence("the server did not answer a process that is to leave")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
    finally:
        gen.close()


def _on_connect(limits: Limits, connection: Any, record: Any) -> None:
    del record
    try:
        _prepare(limits, connection)
    except BaseException:
        connection.close()  # SQLAlchemy does not, where a connection fails before its first use
        raise


def _prepare(limits: Limits, connection: Any) -> None:
    """Check the database's encoding and set the session's limits.

    Raises:
        StorageError: the database cannot store every text.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":  # nor SQL_ASCII, whose texts are bytes of no known meaning
        name = connection.info.dbname
        raise StorageError(
            f"need a Postgres database in UTF8, got {name!r} in {encoding}; create one with "
            f"CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    connection.autocommit = True
    connection.execute(limits.of_session)
    connection.autocommit = False
