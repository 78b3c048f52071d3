"""Writes trials to trackers while a study runs, beside the supervisor's work."""

import logging
import threading
from collections.abc import Callable

from search.errors import SearchError
from search.spec.outside import Tracker
from search.study import Study
from search.study.status import Status
from search.text import counted
from search.track.records import Origin, Sink, TrackedTrial, Unwritten, tracked
from search.track.track import Outcome, bring_up_to_date, open_sink

__all__ = ["Tracking"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0  # until a tracker that was away is tried again
CLOSE_SECONDS = 30.0  # that the end of a run waits for what is still to be written


class Tracking:
    """One tracker, with a thread of its own. No failure of it reaches the run."""

    def __init__(self, study: Study, tracker: Tracker) -> None:
        self._study = study
        self._tracker = tracker
        self._origin = Origin(name=study.name, uid=study.uid, spec=study.spec.hash)
        self._trials: list[TrackedTrial] = []
        self._seen: set[int] = set()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._missing: tuple[int, ...] = ()
        self._error: str | None = None  # of the last attempt
        self._thread = threading.Thread(target=self._run, name=f"track {tracker}", daemon=True)
        self._thread.start()

    def update(self, status: Status) -> None:
        """Take in the trials that have ended since the last look."""
        new = [trial for trial in status.finished if trial.number not in self._seen]
        if not new:
            return
        self._seen |= {trial.number for trial in new}
        made = [tracked(self._study, trial) for trial in new]
        with self._changed:
            self._trials += made
            self._changed.notify()

    def close(
        self, join: Callable[[threading.Thread, float], None] = threading.Thread.join
    ) -> None:
        """Wait a bounded time for the last trials; one line says what is missing.

        Args:
            join: waits for a thread so many seconds at most.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify()
        join(self._thread, CLOSE_SECONDS)
        if self._thread.is_alive() or self._error is not None:
            log.warning(
                "%s: %s not written (%s); `track %s --to %s` writes what is missing",
                self._tracker, counted(len(self._missing), "trial"),
                self._error or "it did not answer in time", self._study.name, self._tracker,
            )  # fmt: skip

    def _run(self) -> None:
        sink: Sink | None = None
        known: set[int] | None = None  # to have been written; None: the tracker is asked
        done = 0
        while True:
            closing = self._closing.is_set()
            with self._changed:
                trials = list(self._trials)
            if len(trials) > done or self._error is not None or closing:
                self._missing = tuple(trial.number for trial in trials)
                before = self._error
                try:
                    sink = sink or open_sink(self._tracker, self._origin)
                    outcome = bring_up_to_date(sink, trials, known=known)
                except (Unwritten, SearchError) as error:
                    outcome = Outcome(written=(), missing=self._missing, error=str(error))
                except Exception as error:  # of the tracker's own package
                    outcome = Outcome(written=(), missing=self._missing, error=type(error).__name__)
                self._missing, self._error = outcome.missing, outcome.error
                known = None if outcome.error else {trial.number for trial in trials}
                done = len(trials)
                if self._error is not None and before is None and not closing:
                    log.warning("%s; it is tried again", self._error)
            if closing:
                return
            with self._changed:
                if len(self._trials) == done and not self._closing.is_set():
                    self._changed.wait(RETRY_SECONDS if self._error is not None else None)
