"""Who is told how a study stands while it runs, beside the terminal: notices and trackers."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from search.study import Study
from search.study.status import Status
from search.supervisor.notices import Notices
from search.supervisor.tracking import Tracking

__all__ = ["Watcher", "watching"]


ASKED_SECONDS = 1.0  # for all watchers together
JOIN_SECONDS = 0.1


class Watcher(Protocol):
    """Is shown the status at each look of the supervisor; it does not wait in `update`."""

    def update(self, status: Status) -> None:
        """Take in how the study stands now."""
        ...


class _Patience:
    """Waits for the threads of watchers, and hardly any more once the run was asked to stop."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked
        self._since: float | None = None  # when it was noticed

    def join(self, thread: threading.Thread, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while thread.is_alive() and time.monotonic() < min(deadline, self._end()):
            thread.join(JOIN_SECONDS)

    def _end(self) -> float:
        if self._since is None and self._asked.is_set():
            self._since = time.monotonic()
        return math.inf if self._since is None else self._since + ASKED_SECONDS


@contextmanager
def watching(study: Study, asked: threading.Event) -> Iterator[Sequence[Watcher]]:
    """The watchers that a study file asks for; at the end they have a bounded time to finish.

    Args:
        asked: is set when the run is to stop: then they have hardly any.
    """
    patience = _Patience(asked)
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        if study.spec.notify is not None:
            notices = Notices(study.spec.notify, study.uid, study.status())
            stack.callback(notices.close, patience.join)
            watchers.append(notices)
        for tracker in study.spec.track:
            tracking = Tracking(study, tracker)
            stack.callback(tracking.close, patience.join)
            watchers.append(tracking)
        yield watchers
