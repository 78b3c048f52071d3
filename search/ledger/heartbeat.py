"""Proof of life of running trials, from a thread of its own."""

import logging
import threading
from types import TracebackType
from typing import Self

from search.errors import StorageError
from search.ledger.ledger import Ledger
from search.ledger.records import Lease
from search.text import describe_error

__all__ = ["Heartbeat", "Heartbeats"]

log = logging.getLogger(__name__)


class Heartbeat:
    """A context that prolongs a lease every `heartbeat_seconds`, whatever the database does.

    Its thread ends only with the context or with the lease. An error never ends it: the heartbeat
    is sent again.

    Attributes:
        lost: set once the lease is no longer ours.
        held: set once somebody has paused the study, so that the trial is to be released.
    """

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self.lost = threading.Event()
        self.held = threading.Event()
        self._ledger = ledger
        self._lease = lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        # A heartbeat that waits for a database that is away notices `_over`. One that hangs in the
        # driver is left behind, as the caller has to end the trial.
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._over.wait(self._ledger.limits.timing.heartbeat_seconds):
            if not _heartbeat(self._ledger, self._lease, self._over, self.held):
                self.lost.set()
                return


class Heartbeats:
    """`Heartbeat` for a process that holds several leases at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._lost: dict[Lease, bool] = {}  # of each lease that is held
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, lease: Lease) -> None:
        """Prolong a lease from now on."""
        with self._lock:
            self._lost[lease] = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
            self._thread.start()

    def drop(self, lease: Lease) -> None:
        """No longer prolong a lease."""
        with self._lock:
            del self._lost[lease]

    def is_lost(self, lease: Lease) -> bool:
        """Whether a lease that is held is no longer ours."""
        with self._lock:
            return self._lost[lease]

    def close(self) -> None:
        """Prolong nothing any more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._over.wait(self._ledger.limits.timing.heartbeat_seconds):
            with self._lock:
                leases = [lease for lease, lost in self._lost.items() if not lost]
            for lease in leases:
                held = _heartbeat(self._ledger, lease, self._over)
                with self._lock:
                    if not held and lease in self._lost:
                        self._lost[lease] = True


def _heartbeat(
    ledger: Ledger, lease: Lease, over: threading.Event, held: threading.Event | None = None
) -> bool:
    """One proof of life; False when the lease is no longer ours.

    Args:
        held: is set where somebody has paused the study.
    """
    timing = ledger.limits.timing
    try:
        standing = ledger.heartbeat(
            lease,
            # After an outage every live worker must be back within the grace.
            longest_pause_s=min(timing.heartbeat_seconds, timing.grace_seconds / 4),
            give_up=over,
        )
        if held is not None and standing is not None and standing.held_since is not None:
            held.set()
        return standing is not None
    except StorageError as error:
        if not over.is_set():  # else it was asked to give up
            log.warning("a heartbeat was rejected and is sent again: %s", error)
    except Exception as error:
        log.warning("a heartbeat failed and is sent again: %s", describe_error(error))
    return True
