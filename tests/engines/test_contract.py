"""What every launcher promises, on real engines: workers that end as they are told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from engine_launchers import SECRET, make_launcher

from search.supervisor.launchers import Exit, Launcher, slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

PREFIX = {"local": "local-", "slurm": "slurm-", "ray": "ray-"}
CPUS = {"local": 1, "slurm": 2, "ray": 1}  # of a worker, so that four fit on an engine's nodes
PLACES = 4


@pytest.fixture(params=["local", "slurm", "ray"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name; what it needs is in the environment, also of processes that a test starts."""
    if request.param == "slurm":
        cluster = request.getfixturevalue("slurm")
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.2)
    elif request.param == "ray":
        monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("cluster_of_ray").address)
    return str(request.param)


class Workers:
    """The workers of one test: those that reported, and what they are told."""

    def __init__(self, engine: str, folder: Path, until: Callable[..., None]) -> None:
        self.engine = engine
        self.folder = folder
        self._until = until
        self.launchers: list[Launcher] = []

    def launcher(self, **options: float) -> Launcher:
        """Another launcher of the same study, as a later command has."""
        options = {"cpus": CPUS[self.engine], **options}
        self.launchers.append(make_launcher(self.engine, self.folder, **options))
        return self.launchers[-1]

    def names(self) -> list[str]:
        """Those that have begun, the oldest first."""
        begun = [file for file in self.folder.iterdir() if file.is_file() and not file.suffix[2:]]
        return [file.name for file in sorted(begun, key=lambda file: file.stat().st_mtime_ns)]

    def wait_for(self, count: int) -> list[str]:
        self._until(lambda: len(self.names()) >= count, f"{count} workers begin")
        assert len(self.names()) == count
        return self.names()

    def of(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / name).read_text()))

    def order(self, name: str, order: str) -> None:
        if order == "SIGKILL":
            os.kill(self.of(name)["pid"], signal.SIGKILL)
        else:
            half = self.folder / f"{name}.half"
            half.write_text(order)
            half.rename(self.folder / f"{name}.order")

    def was_asked(self, name: str) -> bool:
        return (self.folder / f"{name}.left").exists()

    def is_alive(self, name: str) -> bool:
        with suppress(OSError):
            os.kill(self.of(name)["pid"], 0)
            state = Path(f"/proc/{self.of(name)['pid']}/stat").read_text().rpartition(")")[2]
            return state.split()[0] != "Z"
        return False

    def exits(self, launcher: Launcher, count: int) -> dict[str, Exit]:
        """What `poll` returns of so many workers."""
        found: dict[str, Exit] = {}

        def look() -> bool:
            found.update({gone.name: gone for gone in launcher.poll()})
            return len(found) >= count

        self._until(look, f"{count} workers end")
        assert len(found) == count
        return found


@pytest.fixture
def workers(engine: str, tmp_path: Path, until: Callable[..., None]) -> Iterator[Workers]:
    made = Workers(engine, tmp_path, until)
    yield made
    for launcher in made.launchers:
        launcher.stop()
    if engine == "ray":
        import ray

        ray.shutdown()


ENDS: dict[str, dict[str, object]] = {
    "OVER": {"code": 0, "over": True, "refused": ""},
    "REFUSED": {"code": 2, "over": False, "refused": "the data differ"},
    "STORAGE": {"code": 74, "over": False, "blame": False},
    "ASKED": {"code": 75, "over": False, "blame": False},
    "crash": {"code": 1, "over": False, "refused": "", "blame": True},
    "SIGKILL": {"over": False, "refused": "", "blame": True},
}


def test_a_worker_that_ends_before_anybody_looked_is_heard(
    workers: Workers, until: Callable[..., None]
) -> None:
    launcher = workers.launcher()
    launcher.start(1)
    (name,) = workers.wait_for(1)
    workers.order(name, "crash")
    until(lambda: not workers.is_alive(name), "it ends")
    if workers.engine == "slurm":
        squeue = ["squeue", "-h", "-t", "R,CG"]
        until(lambda: not subprocess.check_output(squeue), "Slurm knows that it ended")
    assert [gone.code for gone in workers.exits(launcher, 1).values()] == [1]


def test_how_each_worker_ended_is_heard_and_another_may_take_its_place(
    workers: Workers, until: Callable[..., None]
) -> None:
    launcher = workers.launcher()
    ends = list(ENDS)
    launcher.start(PLACES)
    first = workers.wait_for(PLACES)
    until(lambda: launcher.counts() == (PLACES, 0) or launcher.poll(), "all of them run")
    assert launcher.poll() == []
    for name, end in zip(first, ends, strict=False):
        workers.order(name, end)
    exits = workers.exits(launcher, PLACES)
    assert launcher.counts() == (0, 0)
    launcher.start(len(ends) - PLACES)
    others = workers.wait_for(len(ends))[PLACES:]
    for name, end in zip(others, ends[PLACES:], strict=True):
        workers.order(name, end)
    exits |= workers.exits(launcher, len(others))
    for name, end in zip([*first, *others], ends, strict=True):
        gone = exits[name]
        assert {key: getattr(gone, key) for key in ENDS[end]} == ENDS[end], (end, gone)
        assert gone.certain
        assert not gone.replaced
        assert gone.is_death
    crash, killed = (exits[name] for name in others)
    assert "a line of the crash" in crash.tail
    assert killed.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if workers.engine != "ray":  # which shows its workers' logs itself
        log = Path(crash.tail.partition("; see ")[2])
        assert log.is_relative_to(workers.folder / "logs")
        assert log.read_text().endswith("a line of the crash\n")
    assert launcher.gone([first[0], "another-engine-1"]) == (
        [] if workers.engine == "local" else [first[0]]
    )
    assert not list((workers.folder / "logs").glob("*.note"))


def test_the_same_command_tops_up_and_stop_asks_all_workers_to_leave(
    workers: Workers, until: Callable[..., None]
) -> None:
    launcher = workers.launcher()
    launcher.start(2)
    there = workers.wait_for(2)
    until(lambda: launcher.counts() == (2, 0) or launcher.poll(), "both run")
    assert {workers.of(name)["variables"]["FMNIST_HPO_STORAGE"] for name in there} == {SECRET}
    launcher.end(there[0])
    (gone,) = workers.exits(launcher, 1).values()
    assert (gone.name, gone.over, gone.blame) == (there[0], False, False)
    assert workers.was_asked(there[0])
    later = workers.launcher() if launcher.survives else launcher
    later.start(PLACES + 1 if launcher.survives else PLACES)  # one more than has a place
    names = workers.wait_for(1 + PLACES if workers.engine != "local" else 2 + PLACES)
    running = names[1:]
    assert later.gone(running) == []
    if workers.engine != "local":
        until(lambda: later.counts() == (PLACES, 1) or later.poll(), "one waits")
    assert {gone.name for gone in later.stop()} >= set(running)
    assert later.counts() == (0, 0)
    assert all(workers.was_asked(name) for name in running)
    until(lambda: not any(map(workers.is_alive, running)), "their processes end")
    assert workers.names() == names


def test_workers_outlive_the_command_that_started_them_only_where_the_launcher_says_so(
    workers: Workers, until: Callable[..., None]
) -> None:
    script = Path(__file__).parents[1] / "support" / "engine_launchers.py"
    command = [sys.executable, str(script), workers.engine, str(workers.folder), "2"]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root})
    names = workers.wait_for(2)
    launcher = workers.launcher()
    assert launcher.gone(names) == []  # a second command takes nothing from the first one's
    process.kill()
    process.wait()
    if not launcher.survives:
        until(lambda: not any(map(workers.is_alive, names)), "they leave with it")
        return
    launcher.start(3)
    assert workers.wait_for(3)[:2] == names
    assert all(map(workers.is_alive, names))
