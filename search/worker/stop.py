"""How a worker leaves in time: signals, a supervisor that is gone, and a problem that is deaf."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from search.signals import once, stopping
from search.worker.contract import PARENT_VARIABLE, STOP_SECONDS, Left, leave_note

__all__ = ["depart", "hard_stop", "stop_on_signals"]

log = logging.getLogger(__name__)

LEAVE_SECONDS = STOP_SECONDS - 0.5  # after the request, whatever the worker waits for
HARD_STOP_SECONDS = STOP_SECONDS - 2  # for a problem that does not ask `should_stop` in time
PARENT_SECONDS = 1.0  # between two looks whether the supervisor is there


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM, SIGINT and SIGUSR1 ask for a stop; another SIGINT ends the process at once.

    SIGUSR1 is what a batch system sends when time is short. A worker that a supervisor started
    also stops when the supervisor is gone. A worker that was asked to stop leaves within
    `STOP_SECONDS`, also while the database is away.
    """
    handler = stopping(stop)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, handler)

    def leave() -> None:
        stop.wait()
        time.sleep(LEAVE_SECONDS)
        log.warning("no time left; a trial that runs goes on elsewhere when its lease has run out")
        _exit(Left.ASKED)

    threading.Thread(target=leave, name="leave", daemon=True).start()
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:

        def watch() -> None:
            while os.getppid() == int(parent):
                time.sleep(PARENT_SECONDS)
            log.warning("the supervisor is gone; stopping")
            stop.set()

        threading.Thread(target=watch, name="parent", daemon=True).start()


def depart(left: Left, line: str = "") -> int:
    """Say why this worker leaves; from now on nothing keeps its process from ending.

    A thread or an exit handler of the problem may never end. A signal from now on changes neither
    the exit code nor the note.

    Returns:
        The exit code.
    """
    leave_note(left, line)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, once(lambda _: os._exit(left)))

    def end() -> None:
        time.sleep(STOP_SECONDS)
        os._exit(left)

    threading.Thread(target=end, name="end", daemon=True).start()
    return int(left)


@contextmanager
def hard_stop(stop: threading.Event, release: Callable[[], object]) -> Iterator[None]:
    """Inside, a problem that does not stop in time has its trial released, and the process ends.

    Args:
        release: releases the trial that runs.
    """
    over = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            if over.is_set():
                return
        if not over.wait(HARD_STOP_SECONDS):
            try:
                release()
            finally:
                _exit(Left.ASKED)

    threading.Thread(target=watch, name="hard-stop", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _exit(left: Left) -> NoReturn:
    leave_note(left)
    os._exit(left)
