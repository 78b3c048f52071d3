"""Who is told how a study stands while it runs, beside the terminal: notices and trackers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from search.study import Study
from search.study.status import Status
from search.supervisor.notices import Notices
from search.supervisor.tracking import Tracking

__all__ = ["Watcher", "watching"]


class Watcher(Protocol):
    """Is shown the status at each look of the supervisor; it does not wait in `update`."""

    def update(self, status: Status) -> None:
        """Take in how the study stands now."""
        ...


@contextmanager
def watching(study: Study) -> Iterator[Sequence[Watcher]]:
    """The watchers that a study file asks for; at the end they have a bounded time to finish."""
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        if study.spec.notify is not None:
            notices = Notices(study.spec.notify, study.uid, study.status())
            stack.callback(notices.close)
            watchers.append(notices)
        for tracker in study.spec.track:
            tracking = Tracking(study, tracker)
            stack.callback(tracking.close)
            watchers.append(tracking)
        yield watchers
