"""Runs a study to its end: one policy over any launcher of workers."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from search import attributes
from search.aims.confirmed import sentences
from search.errors import SearchError, StorageError, StudyHalted
from search.signals import stopping
from search.study import Study
from search.study.status import Status
from search.study.views.events import events
from search.supervisor.launchers import Exit, Launcher
from search.supervisor.watchers import Watcher, watching
from search.text import describe_error

__all__ = ["Interrupted", "Progress", "annotate", "run"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the storage
DEATHS = 10  # in a row while the study made no progress: something is wrong with all workers
AMENDMENTS_NOTED = 2  # in the dashboard's note, whose length is bounded
LEAVE_SECONDS = 20.0  # after the last trial has ended, for the workers to leave by themselves


class Progress(Protocol):
    """Where the supervisor shows how a study goes."""

    def __enter__(self) -> "Progress": ...
    def __exit__(self, *exc: object) -> None: ...
    def update(self, status: Status) -> None:
        """Show the present state."""
        ...


class Interrupted(SearchError):
    """The user asked the study to stop; every trial was released."""


def run(
    study: Study,
    launcher: Launcher,
    *,
    workers: int,
    progress: Progress,
    asked: threading.Event | None = None,
) -> Status:
    """Start workers and look after them until the budget is used up.

    Args:
        asked: ends the run when it is set; SIGINT and SIGTERM set it.

    Returns:
        The study at its end.

    Raises:
        Interrupted: asked to stop; the trials were released and go on with the next run.
        StudyHalted: the same error ended several trials in a row.
        SearchError: a worker refused, or workers died in a row without progress.
    """
    study.ledger.resume()
    asked = asked or threading.Event()
    # Workers are stopped before anybody waits for a watcher.
    with (
        _signals(asked),
        study.storage.retry.until(asked),
        progress,
        watching(study, asked) as watchers,
    ):
        try:
            for name in launcher.gone([busy.worker for busy in study.status().running]):
                study.ledger.release_worker(name, blame=False)
            launcher.start(workers)
            status = _Tending(study, launcher, (progress, *watchers), asked).until_over()
            if status is not None:
                return status
            log.info("stopping: the workers release their trials")
            _stop(study, launcher)
            raise Interrupted(f"study {study.name!r} was stopped")
        finally:
            _stop(study, launcher)


def _stop(study: Study, launcher: Launcher) -> None:
    """End all workers; what they could not release is released here, without blame."""
    ended = {gone.name for gone in launcher.stop() if gone.certain}
    try:
        for row in study.ledger.running() if ended else ():
            if row.worker in ended:
                study.ledger.release_worker(row.worker, blame=False)
    except StorageError:  # the database is away
        log.warning("a trial that was not released goes on when its lease has run out")


def _release(study: Study, gone: Exit) -> int:
    """Free at once what a dead worker held; of one that may live the lease runs out.

    Returns:
        How many trials were freed.
    """
    if not gone.name or not gone.certain:
        return 0
    return study.ledger.release_worker(gone.name, blame=gone.blame)


class _Tending:
    """The look at study and workers once a second, and what it remembers from one to the next."""

    def __init__(
        self,
        study: Study,
        launcher: Launcher,
        watchers: Sequence[Watcher],
        asked: threading.Event,
    ) -> None:
        self._study = study
        self._launcher = launcher
        self._watchers = watchers
        self._asked = asked
        self._noted: tuple[int, int, bool] | None = None  # what the note was written for
        self._over_since: float | None = None
        self._deaths = 0
        self._at_work: set[str] = set()  # workers at the look before
        self._steps: dict[int, int] = {}  # lineage -> the furthest step seen
        self._ended = 0
        self._excused: set[str] = set()  # ended by their engine; a loss of theirs does not count

    def until_over(self) -> Status | None:
        """Look after the workers until the study has ended; None once `asked` is set."""
        while not self._asked.is_set():
            try:
                status = self._look()
            except StorageError:
                if not self._asked.is_set():  # else the database is away, and is not waited for
                    raise
            else:
                if status is not None:
                    return status
            # A look keeps the database known as reachable, without which no lease runs out.
            heartbeat = self._study.ledger.limits.timing.heartbeat_seconds
            self._asked.wait(min(LOOK_SECONDS, heartbeat))
        return None

    def _look(self) -> Status | None:
        """One look; the study's status once it is over and no worker is left."""
        study = self._study
        study.ledger.reap()
        status = study.status()
        self._end_lost(status)
        self._show(status)
        if status.halted is not None:
            raise _halted(study, status)
        self._note_progress(status)
        self._forgive(status)
        over = status.over
        for gone in self._launcher.poll():
            # A worker that left after the look may have ended the study, or halted it.
            over = over or self._is_over()
            self._part_with(gone, over=over)
        if not over:
            self._over_since = None
            return None
        if not self._have_left(status):
            return None
        status = study.status()
        if not study.storage.still_there():
            raise StorageError(
                f"the database at {study.storage.url} was replaced while the study ran, so the "
                "trials are not in it; restore it if need be, and run the same command again"
            )
        self._show(status)
        return status

    def _show(self, status: Status) -> None:
        for watcher in self._watchers:
            watcher.update(status)
        stands = (status.ended, len(status.amendments), status.ended_by is not None)
        if stands != self._noted:
            self._noted = stands
            annotate(self._study)

    def _end_lost(self, status: Status) -> None:
        """End workers that lost their lease for want of heartbeats although they live: stuck.

        Whoever comes first takes the lease from them: this process, or a worker that claims.
        """
        at_work = {busy.worker for busy in status.running}
        gone, self._at_work = self._at_work - at_work, at_work
        for name in self._study.ledger.lost_workers(gone) if gone else ():
            self._launcher.end(name)

    def _forgive(self, status: Status) -> None:
        """Take back the losses of workers that an engine ended, once their leases are gone.

        A lease may run out before the engine notices that a node is lost, or is certain of it.
        """
        for name in self._excused - {busy.worker for busy in status.running}:
            self._excused.remove(name)
            self._study.ledger.forgive(name)

    def _note_progress(self, status: Status) -> None:
        """Forget the deaths when a lineage has ended or come further than any attempt before."""
        progress = status.ended > self._ended
        self._ended = max(self._ended, status.ended)
        reached = [(busy.lineage, busy.step) for busy in status.running]
        reached += [(trial.lineage, trial.step) for trial in status.paused]
        for lineage, step in reached:
            if step > self._steps.get(lineage, 0):
                self._steps[lineage] = step
                progress = True
        if progress:
            self._deaths = 0

    def _is_over(self) -> bool:
        status = self._study.status()
        if status.halted is not None:
            self._show(status)
            raise _halted(self._study, status)
        return status.over

    def _part_with(self, gone: Exit, *, over: bool) -> None:
        """Release what a worker held that has ended, and start another while there is work."""
        if over and (gone.over or gone.code == 0):
            return
        released = _release(self._study, gone)
        if gone.code is None and not gone.blame and not released:
            self._excused.add(gone.name)
        if gone.refused:
            raise SearchError(gone.refused)
        self._deaths += gone.is_death
        if self._deaths >= DEATHS:
            raise SearchError(
                f"{DEATHS} workers in a row died without progress, the last {gone.how}: {gone.tail}"
            )
        follows = "" if over or gone.replaced else "; another takes its place"
        log.warning("worker %s ended %s%s", gone.name or "?", gone.how, follows)
        if follows:
            self._launcher.start(1)

    def _have_left(self, status: Status) -> bool:
        """Whether the last workers have left, or have had the time to."""
        running, _ = self._launcher.counts()
        if not running:
            return True
        now = time.monotonic()
        if status.running or self._over_since is None:  # a trial may go on past the budget
            self._over_since = now
            return False
        if now - self._over_since < LEAVE_SECONDS:
            return False
        log.warning("a worker did not leave after the last trial; ending it")
        return True


def annotate(study: Study, *, remarks: Sequence[str] = ()) -> None:
    """Bring the note on the study's page in the dashboard up to date.

    A study does not fail because of the note: an error is logged.

    Args:
        remarks: further paragraphs, in Markdown.
    """
    from search.dashboard import annotate as write

    try:
        confirmed = study.confirmation
        found = [] if confirmed is None else sentences(confirmed)
        remarks = [*found, *events(study, most=AMENDMENTS_NOTED), *remarks]
        write(
            study.optuna,
            metrics=study.spec.metrics,
            remarks=remarks,
            params_of=study.params,
            resting=study.resting,
        )
    except Exception as error:
        log.warning("the dashboard's note was not written: %s", describe_error(error))


def _halted(study: Study, status: Status) -> StudyHalted:
    """The error to raise, with the traceback of the first of its trials as a note."""
    error = StudyHalted(study.name, status.halted or "")
    for trial in status.finished:
        attrs = trial.user_attrs
        cause = attrs.get(attributes.ERROR_AT, attrs.get(attributes.ERROR))
        if status.halted == cause and attributes.TRACEBACK in attrs:
            error.add_note(str(attrs[attributes.TRACEBACK]))
            break
    return error


@contextmanager
def _signals(asked: threading.Event) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM set `asked`; another SIGINT ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = stopping(asked)
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
