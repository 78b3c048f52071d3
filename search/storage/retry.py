"""Waiting for a database that is away.

A statement whose connection was lost may or may not have been committed. Whoever writes therefore
says how to recognise an own write (`settled`), or writes something that may be written twice.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import optuna
from sqlalchemy import exc

from search.errors import StorageError

__all__ = ["Retry", "driver_error", "first_line", "is_transient"]

T = TypeVar("T")

FIRST_PAUSE_S = 0.02  # seconds before the first repetition: a deadlock or a lock clears at once
LONGEST_PAUSE_S = 5.0  # seconds; pauses double up to this
QUIET_S = 10.0  # a lock that keeps us waiting for longer than this is worth a line

#: SQLSTATEs, by their beginnings. Away: connection lost, resources exhausted (connections, disk),
#: the server stops or starts, a standby. Contention: serialization failure, deadlock, lock timeout.
_AWAY = ("08", "53", "57P", "25006")
_CONTENTION = ("40", "55P03")
#: What stays as it is until somebody changes the rights to the database, or its file.
_REFUSED = ("42501",)
_REFUSED_SQLITE = ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CORRUPT", "SQLITE_NOTADB")
_TRANSIENT_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "SQLITE_FULL")


class Retry:
    """Repeats a call until the database answers again, with growing, jittered pauses.

    One object per process: the threads share it, so an outage is reported once.

    Args:
        say: is given one line when the database goes away and one when it is back.
        give_up: ends the waiting; the call then raises `StorageError`.
    """

    def __init__(
        self, say: Callable[[str], None] | None = None, give_up: threading.Event | None = None
    ) -> None:
        self._say = say or (lambda line: None)
        self._give_up = give_up or threading.Event()
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def call(
        self,
        attempt: Callable[[bool], T],
        ping: Callable[[], None],
        *,
        give_up: threading.Event | None = None,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> T:
        """Return `attempt(repeated)`, repeated for as long as it fails for want of the database.

        Args:
            attempt: is told whether it was tried before, so that a commit may have gone through.
            ping: raises when the database does not answer.

        Raises:
            StorageError: told to give up, or the database lets us not write, or is damaged.
        """
        give_up = give_up or self._give_up
        pause = FIRST_PAUSE_S
        started = time.monotonic()
        repeated = False
        while True:
            try:
                if repeated:
                    ping()
                result = attempt(repeated)
            except Exception as error:
                if _is_refused(error):
                    raise StorageError(
                        f"the database refuses what we ask of it: {first_line(error)}; see to the "
                        "rights to it and to its files, or name another storage"
                    ) from error
                if not is_transient(error):
                    raise
                if _is_away(error) or time.monotonic() - started > QUIET_S:
                    self._gone(error)
                if give_up.wait(pause * random.uniform(0.5, 1.0)):
                    raise StorageError(
                        f"the database did not answer and we were told to stop: {first_line(error)}"
                    ) from error
                pause = min(2 * pause, longest_pause_s)
                repeated = True
            else:
                self._back()
                return result

    @contextmanager
    def until(self, asked: threading.Event) -> Iterator[None]:
        """Inside, wait for the database no longer than until `asked` is set."""
        before, self._give_up = self._give_up, asked
        try:
            yield
        finally:
            self._give_up = before

    def report(self, line: str) -> None:
        """Pass a line on to the user."""
        self._say(line)

    def _gone(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = time.monotonic()
        self._say(f"the database is away ({first_line(error)}); waiting until it is back")

    def _back(self) -> None:
        if self._away_since is None:
            return
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            self._say(f"the database is back after {time.monotonic() - since:.1f} s")


def is_transient(error: BaseException) -> bool:
    """Whether the same call may work later: the database is away, or somebody else was first."""
    if isinstance(_cause(error), exc.TimeoutError):  # no connection of the pool became free
        return True
    driver = driver_error(error)
    if hasattr(driver, "sqlite_errorname"):
        return str(driver.sqlite_errorname).startswith(_TRANSIENT_SQLITE)
    state = str(getattr(driver, "sqlstate", None))
    return _is_away(error) or state.startswith(_CONTENTION)


def _is_refused(error: BaseException) -> bool:
    driver = driver_error(error)
    if hasattr(driver, "sqlite_errorname"):
        return str(driver.sqlite_errorname).startswith(_REFUSED_SQLITE)
    return getattr(driver, "sqlstate", None) in _REFUSED


def _is_away(error: BaseException) -> bool:
    """Whether there is no database that answers, so that waiting is worth a line."""
    driver = driver_error(error)
    if driver is None or hasattr(driver, "sqlite_errorname"):
        return False
    state = getattr(driver, "sqlstate", None)
    if state is None:  # libpq failed before a server could answer, or while it did
        return isinstance(_cause(error), exc.OperationalError | exc.InterfaceError)
    return str(state).startswith(_AWAY)


def _cause(error: BaseException) -> BaseException | None:
    """SQLAlchemy's error, which Optuna wraps in one of its own."""
    wrapped = isinstance(error, optuna.exceptions.StorageInternalError)
    return error.__cause__ if wrapped else error


def driver_error(error: BaseException) -> Any:
    """The driver's own exception; None when there is none."""
    cause = _cause(error)
    return cause.orig if isinstance(cause, exc.DBAPIError) else None


def first_line(error: BaseException) -> str:
    """The driver's first line: SQLAlchemy's own text also holds the statement."""
    text = str(driver_error(error) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
