"""What the launcher asks of Slurm, and what it tells it; a real one is in tests/engines."""

import itertools
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_launchers import SECRET, make_launcher

from search.errors import SearchError
from search.supervisor.launchers import Launcher, slurm
from search.supervisor.launchers.slurm_queue import Task, Unanswered

RUNS = Task(state="R", status="0", restarts=0, reason="None")


class Controller:
    """Takes every job; `answers` says of which calls of sbatch it is told."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.looks = 0
        self.answers: Iterator[bool] = itertools.repeat(True)
        self.takes = True  # also what it does not answer
        self.refuses = False
        self.cancelled = 0  # calls of scancel

    def look(self, job: str) -> dict[str, Task]:
        assert job
        self.looks += 1
        return dict(self.tasks)

    def ask(self, *argv: str, stdin: str | None = None) -> str:
        if argv[0] == "scancel":
            self.cancelled += 1
            self.tasks.clear()
            return ""
        assert argv[0] == "sbatch"
        assert stdin is not None
        if self.refuses:
            raise SearchError("sbatch failed: invalid partition specified")
        answered = next(self.answers)
        job = len(self.tasks) + 1
        if answered or self.takes:
            last = int(stdin.partition("--array=0-")[2].split()[0])
            self.tasks |= {f"{job}_{n}": RUNS for n in range(last + 1)}
        if not answered:
            raise Unanswered("sbatch did not answer within 60 s")
        return f"{job};cluster\n"


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Controller:
    made = Controller()
    monkeypatch.setattr(slurm, "look", made.look)
    monkeypatch.setattr(slurm, "ask", made.ask)
    return made


@pytest.fixture
def launcher(controller: Controller, tmp_path: Path) -> Launcher:
    made = make_launcher("slurm", tmp_path)
    made.start(2)
    assert (controller.looks, len(controller.tasks)) == (1, 2)
    return made


def test_a_worker_is_replaced_without_another_look(
    controller: Controller, launcher: Launcher
) -> None:
    launcher.start(1)
    launcher.start(1)
    assert (controller.looks, len(controller.tasks)) == (1, 4)
    launcher.poll()
    launcher.start(1)
    launcher.poll()
    assert (controller.looks, len(controller.tasks)) == (3, 5)  # one look for each poll


@pytest.mark.parametrize("takes", [True, False])
def test_what_came_through_without_an_answer_is_not_submitted_again(
    controller: Controller, launcher: Launcher, takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.takes = takes
    controller.answers = iter([True, False, True])
    launcher.start(1)
    launcher.start(2)
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.0)
    for _ in range(3):
        launcher.poll()
    assert len(controller.tasks) == 5


@pytest.mark.parametrize("there", [0, 1])
def test_a_start_that_fails_ends_no_worker_of_an_earlier_command(
    controller: Controller, tmp_path: Path, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.tasks = {f"7_{n}": RUNS for n in range(there)}
    controller.refuses = True
    refused = make_launcher("slurm", tmp_path)
    with pytest.raises(SearchError, match="invalid partition"):
        refused.start(2)
    refused.stop()
    assert controller.cancelled == (not there)

    def deaf(job: str) -> dict[str, Task]:
        raise Unanswered(f"squeue --name {job} failed: Unable to contact slurm controller")

    monkeypatch.setattr(slurm, "look", deaf)
    unanswered = make_launcher("slurm", tmp_path)
    with pytest.raises(Unanswered):
        unanswered.start(2)
    unanswered.stop()
    assert controller.cancelled == (not there)


def test_no_worker_counts_as_dead_while_the_controller_is_away(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(job: str) -> dict[str, Task]:
        raise Unanswered(f"squeue --name {job} failed: Unable to contact slurm controller")

    controller.tasks = {"1_0": RUNS}
    names = ["slurm-1_0.0", "slurm-1_1.0"]
    assert make_launcher("slurm", tmp_path).gone(names) == ["slurm-1_1.0"]
    monkeypatch.setattr(slurm, "look", deaf)
    assert make_launcher("slurm", tmp_path).gone(names) == []


def test_a_task_reads_all_variables_whenever_it_starts(launcher: Launcher, tmp_path: Path) -> None:
    """The file is written again as workers are replaced, maybe with other variables."""
    file = tmp_path / "logs" / "worker.env"
    assert file.stat().st_mode & 0o777 == 0o600
    over, found = threading.Event(), set()

    def read() -> None:
        while not over.is_set():
            found.add(file.read_text())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for n in range(200):
            launcher._variables["N"] = str(n % 2)  # type: ignore[attr-defined]
            launcher.start(1)
    finally:
        over.set()
        thread.join()
    assert all(SECRET in text for text in found)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(SearchError, match=r"cannot write .*worker.env, .*; make room") as refused:
        make_launcher("slurm", tmp_path)._write_environment()  # type: ignore[attr-defined]
    assert "\n" not in str(refused.value)


def test_the_script_takes_any_folder_and_any_option(tmp_path: Path) -> None:
    folder = tmp_path / "50%A of my 'runs'"
    made = make_launcher("slurm", folder)
    made._options += ["-p", "gpu", "--comment=two words"]  # type: ignore[attr-defined]
    script = made.script(2)  # type: ignore[attr-defined]
    directives = [line.partition(" ")[2] for line in script.splitlines() if "#SBATCH" in line]
    # Slurm reads quotes in directives as a shell does.
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {' '.join(directives)}"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    shown = str(folder / "logs").replace("%", "%%")
    assert f"--output={shown}/slurm-%A_%a.log" in words
    assert words[-3:] == ["-p", "gpu", "--comment=two words"]
