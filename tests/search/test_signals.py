"""Signals that ask a process to stop."""

import signal
import subprocess
import sys
import time

import pytest

from search.signals import describe_exit, interruptible

_WAITS = """
import signal, sys, threading
from search.signals import stopping
asked = threading.Event()
signal.signal(signal.SIGINT, stopping(asked))
signal.signal(signal.SIGTERM, stopping(asked))
print("ready", flush=True)
asked.wait()
print("asked", flush=True)
sys.stdin.read()
print("ended", flush=True)
"""


def waiting() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "pause"),
    [(signal.SIGINT, 0.05), (signal.SIGTERM, 1.1)],
    ids=["a Ctrl-C that comes twice is one", "SIGTERM asks, however often"],
)
def test_what_asks_only(number: signal.Signals, pause: float) -> None:
    with waiting() as process:
        for _ in range(2):
            process.send_signal(number)
            time.sleep(pause)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "asked\nended\n")


def test_another_ctrl_c_ends_the_process_at_once() -> None:
    with waiting() as process:
        process.send_signal(signal.SIGINT)
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stdout is not None
        assert process.stdout.read() == "asked\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "with exit code 0"),
        (-9, "by SIGKILL"),
        (-(signal.SIGRTMIN + 6), f"by signal {signal.SIGRTMIN + 6}"),
        (-200, "by signal 200"),
    ],
)
def test_how_a_process_ended_is_described(code: int, text: str) -> None:
    assert describe_exit(code) == text


def test_a_command_leaves_the_callers_ctrl_c_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # passed on by a launcher: the same one
    assert signal.getsignal(signal.SIGINT) is before
