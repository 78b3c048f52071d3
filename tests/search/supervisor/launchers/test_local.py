"""Local workers: how each ended, and that every one of them is ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.supervisor.launchers import Exit, local
from search.supervisor.launchers.local import LocalLauncher

pytestmark = pytest.mark.process

#: Begins a worker that may write its note.
NOTE = "import os, sys, signal, time; note = os.environ['FMNIST_HPO_NOTE']; "


@pytest.fixture
def launchers(tmp_path: Path) -> Iterator["Launchers"]:
    made = Launchers(tmp_path)
    yield made
    for launcher in made.all:
        launcher.stop()


class Launchers:
    """Makes launchers of workers that run a line of Python."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[LocalLauncher] = []

    def __call__(self, code: str, **options: object) -> LocalLauncher:
        command = [sys.executable, "-c", NOTE + code]
        logs = self.directory / "logs"
        launcher = LocalLauncher(command, environment={}, logs=logs, **options)  # type: ignore[arg-type]
        self.all.append(launcher)
        return launcher


def one_exit(launcher: LocalLauncher) -> Exit:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        exits = launcher.poll()
        if exits:
            (gone,) = exits
            return gone
        time.sleep(0.05)
    pytest.fail("no worker ended")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit('a line')", {"code": 1, "how": "with exit code 1", "blame": True}),
        # A problem can end the process with any code; only the worker writes the note.
        ("os._exit(2)", {"code": 2, "refused": "", "blame": True}),
        ("os._exit(75)", {"code": 75, "blame": True}),
        ("os._exit(0)", {"code": 0, "over": False, "blame": True}),
        ("open(note, 'w').write('REFUSED\\nno data\\n'); os._exit(2)", {"refused": "no data"}),
        ("open(note, 'w').write('OVER\\n')", {"code": 0, "over": True}),
        ("open(note, 'w').write('ASKED\\n'); os._exit(75)", {"code": 75, "blame": False}),
        ("open(note, 'w').write('STORAGE\\n'); os._exit(74)", {"code": 74, "blame": False}),
        ("open(note, 'w').write('\\x00'); os._exit(3)", {"code": 3, "blame": True}),
        ("os.kill(os.getpid(), signal.SIGKILL)", {"code": -9, "how": "by SIGKILL"}),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", {"how": f"by signal {signal.SIGRTMIN + 6}"}),
    ],
)
def test_why_a_worker_ended(launchers: Launchers, code: str, expected: dict[str, object]) -> None:
    launcher = launchers(code)
    launcher.start(1)
    gone = one_exit(launcher)
    assert {name: getattr(gone, name) for name in expected} == expected
    assert gone.is_death
    assert launcher.counts() == (0, 0)
    assert not list((launchers.directory / "logs").glob("*.note"))


def test_the_last_line_of_a_huge_log_is_shown_without_control_characters(
    launchers: Launchers,
) -> None:
    launcher = launchers("print('x' * 10_000_000); print('\\x1b[2Jthe last\\n'); sys.exit(1)")
    launcher.start(1)
    assert one_exit(launcher).tail.startswith(r"\x1b[2Jthe last; see ")


def test_a_replacement_takes_the_free_gpu(launchers: Launchers) -> None:
    launcher = launchers("print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(60)",
                         gpus=("a", "b", "c"))  # fmt: skip
    launcher.start(3)
    logs = launchers.directory / "logs"

    def devices() -> list[str]:
        return sorted(log.read_text().strip() for log in logs.glob("*.log"))

    wait_for(lambda: devices() == ["a", "b", "c"])
    second = next(log.stem for log in logs.glob("*.log") if log.read_text().strip() == "b")
    launcher.end(second)
    assert one_exit(launcher).name == second
    launcher.start(1)
    wait_for(lambda: devices() == ["a", "b", "b", "c"])


@pytest.mark.slow
def test_a_worker_that_is_suspended_or_deaf_is_ended(
    launchers: Launchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_SECONDS", 1.0)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
    launcher = launchers(deaf + "time.sleep(60)")
    launcher.start(3)
    logs = launchers.directory / "logs"
    wait_for(lambda: all(log.read_text() for log in logs.glob("*.log")))
    first, *_ = sorted(logs.glob("*.log"))
    launcher.end(first.stem)
    assert one_exit(launcher).code == -signal.SIGKILL
    stopped = [child.process.pid for child in launcher._children]
    os.kill(stopped[0], signal.SIGSTOP)
    exits = launcher.stop()
    assert [gone.code for gone in exits] == [-signal.SIGKILL] * 2
    assert launcher.counts() == (0, 0)
    for pid in stopped:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_run_leaves_within_ten_seconds_whatever_its_problems_do() -> None:
    """The waits alone, as the time of a busy machine is anybody's."""
    assert local.STOP_SECONDS < local.GRACE_SECONDS
    assert local.GRACE_SECONDS + local.KILL_SECONDS < 10


def test_workers_start_without_logs_when_these_cannot_be_written(launchers: Launchers) -> None:
    (launchers.directory / "logs").write_text("no folder")
    launcher = launchers("sys.exit(3)")
    launcher.start(1)
    gone = one_exit(launcher)
    assert (gone.code, gone.tail.split(" (")[0]) == (3, "its log cannot be read")


@pytest.mark.slow
def test_a_worker_leaves_when_its_launcher_is_killed(tmp_path: Path) -> None:
    """Whatever ends a supervisor, its workers do not outlive it for long."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from search.supervisor.launchers.local import LocalLauncher\n"
        "worker = 'import threading; from search.worker.stop import stop_on_signals; '\\\n"
        "    'stop = threading.Event(); stop_on_signals(stop); print(1, flush=True); stop.wait()'\n"
        "launcher = LocalLauncher([sys.executable, '-c', worker], environment={},\n"
        f"    logs=Path({str(tmp_path)!r}))\n"
        "launcher.start(1)\n"
        "print(launcher._children[0].process.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    wait_for(lambda: any(log.read_text() for log in tmp_path.glob("*.log")))
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
