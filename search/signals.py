"""Signals that ask a process to stop."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["SignalHandler", "once", "stopping"]

AGAIN_SECONDS = 1.0

SignalHandler = Callable[[int, FrameType | None], None]


def once(act: Callable[[int], None]) -> SignalHandler:
    """A handler that takes signals of a kind within a second for one.

    A launcher such as `uv run` passes on to its child the Ctrl-C that the terminal sent to both.
    """
    taken: dict[int, float] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        now = time.monotonic()
        if now - taken.get(number, -math.inf) >= AGAIN_SECONDS:
            taken[number] = now
            act(number)

    return on_signal


def stopping(asked: threading.Event) -> SignalHandler:
    """A handler that sets `asked`; a SIGINT after that ends the process at once."""

    def act(number: int) -> None:
        if number == signal.SIGINT and asked.is_set():
            os._exit(130)
        asked.set()

    return once(act)
