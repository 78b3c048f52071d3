"""Waiting for a database that is away.

A statement whose connection was lost may or may not have been committed. A caller that writes
therefore says how to recognise its own write (`settled`), or writes what may be written twice.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from search.address import redact
from search.errors import StorageError
from search.storage.engines.failure import Failure, failure_of, first_line, is_read_only, refusal

__all__ = ["READING_SECONDS", "Retry", "giving_up"]

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.02  # seconds before the first repetition: a deadlock or a lock clears at once
LONGEST_PAUSE_S = 5.0  # seconds; pauses double up to this
QUIET_S = 10.0  # a lock that keeps us waiting for longer than this is worth a line
MISSING_S = 60.0  # a database that does not exist may be in the course of a restore
#: For how long a command that only reads waits: somebody sits before it.
READING_SECONDS = 30.0

#: Of the call that this thread is in: the event that asks it to leave.
_give_up: ContextVar[threading.Event | None] = ContextVar("give_up", default=None)


def giving_up() -> bool:
    """Whether the call that this thread is in was asked to leave."""
    event = _give_up.get()
    return event is not None and event.is_set()


class Retry:
    """Repeats a call until the database answers again, with growing, jittered pauses.

    One object per process. Its threads share it, so an outage is logged once when it begins and
    once when it is over.

    Args:
        give_up: ends the waiting; the call then raises `StorageError`.
        limit_seconds: for which one call waits; None: as long as it takes.
    """

    def __init__(
        self, *, give_up: threading.Event | None = None, limit_seconds: float | None = None
    ) -> None:
        self.address = ""  # whose secrets are kept out of messages; set by the storage
        self._give_up = give_up or threading.Event()
        self._limit = limit_seconds
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._has_written = False

    def call(
        self,
        attempt: Callable[[bool], T],
        ping: Callable[[], None],
        *,
        writes: bool = False,
        give_up: threading.Event | None = None,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> T:
        """Return `attempt(repeated)`, repeated for as long as it fails for want of the database.

        Args:
            attempt: is told whether it was tried before, so that a commit may have gone through.
            ping: is called before a repetition; raises when the database does not answer.
            writes: whether the call changes something.
            give_up: takes the place of this object's own.

        Raises:
            StorageError: the waiting was ended, or the database refuses the call for good.
        """
        give_up = give_up or self._give_up
        token = _give_up.set(give_up)
        pause = FIRST_PAUSE_S
        started = time.monotonic()
        repeated = False
        try:
            while True:
                try:
                    if repeated:
                        ping()
                    result = attempt(repeated)
                except Exception as error:
                    waited = time.monotonic() - started
                    self._judge(error, waited)
                    if give_up.wait(self._pause(pause, waited)):
                        raise StorageError(
                            f"stopped while waiting for the database: {self._line(error)}"
                        ) from error
                    pause = min(2 * pause, longest_pause_s)
                    repeated = True
                else:
                    self._has_written |= writes
                    self._back()
                    return result
        finally:
            _give_up.reset(token)

    @contextmanager
    def until(self, asked: threading.Event) -> Iterator[None]:
        """Inside, wait for the database no longer than until `asked` is set."""
        before, self._give_up = self._give_up, asked
        try:
            yield
        finally:
            self._give_up = before

    def _judge(self, error: Exception, waited: float) -> None:
        """Log an error that is to be waited out; raise one that is not."""
        failure = failure_of(error)
        if is_read_only(error):
            if self._has_written:  # it was no matter of rights: the disk is read-only now
                failure = Failure.AWAY
            elif self._limit is not None:  # somebody waits, and a standby may stay one
                failure = Failure.REFUSED
        if failure is Failure.CALL:
            raise error
        if failure is Failure.REFUSED or (failure is Failure.MISSING and waited > MISSING_S):
            raise StorageError(
                f"the database rejected the statement: {self._line(error)}; {refusal(error)}"
            ) from error
        if self._limit is not None and waited > self._limit:
            raise StorageError(
                f"the database did not answer for {self._limit:.0f} s: {self._line(error)}; "
                "run the same command again when it is back"
            ) from error
        if failure is not Failure.BUSY or waited > QUIET_S:
            self._gone(error)

    def _pause(self, pause: float, waited: float) -> float:
        pause *= random.uniform(0.5, 1.0)
        return pause if self._limit is None else min(pause, max(0.0, self._limit - waited))

    def _line(self, error: BaseException) -> str:
        return redact(first_line(error), self.address)

    def _gone(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = time.monotonic()
        log.warning("the database is away (%s); waiting until it is back", self._line(error))

    def _back(self) -> None:
        if self._away_since is None:
            return
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            log.warning("the database is back after %.1f s", time.monotonic() - since)
