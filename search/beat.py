"""Proof of life of a running trial, from a thread of its own."""

import threading
from types import TracebackType
from typing import Self

from search.errors import StorageError
from search.ledger import Lease, Ledger

__all__ = ["Beat"]


class Beat:
    """While it is entered, the lease is prolonged every `beat_seconds`, whatever the database does.

    The thread ends only with the context or with the lease: an error is waited out, never raised.

    Attributes:
        lost: set once the lease is no longer ours.
    """

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self.lost = threading.Event()
        self._ledger = ledger
        self._lease = lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

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
        # A beat that waits for a database that is away notices `_over`; one that is held up in the
        # driver is left behind, as whoever leaves this context has to end the trial.
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        timing = self._ledger.timing
        while not self._over.wait(timing.beat_seconds):
            try:
                held = self._ledger.beat(
                    self._lease,
                    # After an outage every live worker must be back within the grace.
                    longest_pause_s=min(timing.beat_seconds, timing.grace_seconds / 4),
                    give_up=self._over,
                )
            except StorageError:  # told to give up
                continue
            except Exception as error:
                self._ledger.storage.retry.report(f"a beat failed and will be repeated: {error!r}")
                continue
            if not held:
                self.lost.set()
                return
