"""How a worker's process ends."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

_STUBBORN = {
    "thread": "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "exit handler": "import atexit; atexit.register(time.sleep, 1000)",
    "nothing": "",
}
_DEPARTS = """
import sys, threading, time
from search.worker import stop
from search.worker.contract import Left
stop.STOP_SECONDS = {seconds}
stop.stop_on_signals(threading.Event())
{stubborn}
code = stop.depart(Left.{left}, "why")
print("departs", flush=True)
sys.exit(code)
"""


def departs(left: str, stubborn: str, seconds: float) -> "subprocess.Popen[str]":
    code = _DEPARTS.format(left=left, stubborn=_STUBBORN[stubborn], seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "departs\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", _STUBBORN)
@pytest.mark.parametrize(("left", "code"), [("OVER", 0), ("ASKED", 75), ("REFUSED", 2)])
def test_nothing_keeps_a_worker_that_is_through(stubborn: str, left: str, code: int) -> None:
    with departs(left, stubborn, 0.5) as process:
        assert process.wait(60) == code


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_after_the_work_changes_no_exit_code(number: signal.Signals) -> None:
    with departs("OVER", "thread", 1000) as process:
        process.send_signal(number)
        assert process.wait(60) == 0


_WAITS = """
import sys, threading
from search.worker import stop
stop.LEAVE_SECONDS = float(sys.argv[1])
asked = threading.Event()
stop.stop_on_signals(asked)
print("ready", flush=True)
asked.wait()
print("asked", flush=True)
threading.Event().wait(0 if sys.argv[2] == "leaves" else 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize(("how", "code"), [("leaves", 0), ("waits for ever", 75)])
def test_a_signal_asks_and_a_worker_that_waits_for_something_leaves_in_time(
    number: signal.Signals, how: str, code: int
) -> None:
    seconds = "1000" if how == "leaves" else "0.5"
    argv = [sys.executable, "-c", _WAITS, seconds, how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        assert process.wait(60) == code
