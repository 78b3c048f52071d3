"""Signals that ask a process to stop, and how a process ended by one is described."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SignalHandler", "describe_exit", "interruptible", "once", "stopping", "terminated"]

AGAIN_SECONDS = 1.0

SignalHandler = Callable[[int, FrameType | None], None]


def once(act: Callable[[int], None]) -> SignalHandler:
    """Return a handler that counts signals of one kind within a second as one.

    A launcher such as `uv run` passes the Ctrl-C on to its child, which also gets it from the
    terminal.
    """
    taken: dict[int, float] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        now = time.monotonic()
        if now - taken.get(number, -math.inf) >= AGAIN_SECONDS:
            taken[number] = now
            act(number)

    return on_signal


def stopping(asked: threading.Event) -> SignalHandler:
    """Return a handler that sets `asked`; a SIGINT after that ends the process at once."""

    def act(number: int) -> None:
        if number == signal.SIGINT and asked.is_set():
            os._exit(130)
        asked.set()

    return once(act)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a Ctrl-C raises `KeyboardInterrupt` once, also if it arrives twice (see `once`).

    Nothing changes outside the main thread, or where a caller has set a handler of its own.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not main or before is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, once(interrupt))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminated() -> Iterator[None]:
    """Inside, SIGTERM raises `SystemExit`, so that `finally` blocks run; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe_exit(code: int) -> str:
    """How a process ended, for a person, from its return code as `subprocess` gives it."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"by signal {-code}"
