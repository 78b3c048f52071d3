"""How a worker waits while there is nothing to claim."""

import random
import threading
import time

__all__ = ["Idle"]

SHORTEST_SECONDS = 1.0  # between two looks for a lineage that has become free
SHARE = 0.1  # of the time that a worker has been idle, which its next wait lasts


class Idle:
    """Waits that grow while a worker stays idle, and differ between workers.

    At the end of a large study most workers have nothing to do, and each look costs the database
    several statements. A worker waits for a tenth of the time that it has been idle, so it notices
    the end of the study late by at most that.

    Args:
        heartbeat_seconds: the longest wait. A waiting worker's looks keep the database known as
            reachable, without which nobody reaps.
    """

    def __init__(self, heartbeat_seconds: float) -> None:
        self._longest = heartbeat_seconds
        self._since: float | None = None
        self._random = random.Random()  # problems seed the module's own

    def wait(self, stop: threading.Event) -> None:
        """Wait before the next look; at most until `stop` is set."""
        stop.wait(self.pause(time.monotonic()))

    def pause(self, now: float) -> float:
        """Seconds to wait, from half of the present length to all of it.

        Args:
            now: monotonic, seconds.
        """
        if self._since is None:
            self._since = now
        length = min(max(SHORTEST_SECONDS, SHARE * (now - self._since)), self._longest)
        return length * self._random.uniform(0.5, 1.0)

    def end(self) -> None:
        """The worker has something to do; the next wait is a short one again."""
        self._since = None
