"""Real engines, started by the tests."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import SlurmCluster
from started import Started
from toy import toy_spec

import search
from search.study import Study

PROBLEMS = Path(__file__).parents[1] / "problems"
START_SECONDS = 60  # for something that is bound to happen


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Two nodes of four CPUs."""
    if reason := slurm_cluster.why_not():
        pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


class Run:
    """`python -m search run` in a directory of its own, on an engine."""

    def __init__(self, folder: Path, storage: str, environment: dict[str, str]) -> None:
        self.folder = folder
        self.storage = storage
        self.environment = {
            **environment,
            "PYTHONPATH": str(PROBLEMS),
            "FMNIST_HPO_STORAGE": storage,
            "OMP_NUM_THREADS": "1",
        }
        self._started = Started(folder, self.environment)

    def create(self, *, trials: int, steps: int, pause: float) -> Study:
        """Write and create a study of toy trials; `pause` in seconds a step."""
        tables = f"[workers]\nheartbeat_seconds = 1.0\n[fixed]\nsteps = {steps}\npause = {pause}"
        spec = toy_spec(trials=trials, extra=tables)
        (self.folder / "toy.toml").write_text(spec)
        checkpoints = str(self.folder / "checkpoints")
        return search.create(spec, storage=self.storage, checkpoints=checkpoints)

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        checkpoints = ("--checkpoints", str(self.folder / "checkpoints"))
        engine = argv.index("--") if "--" in argv else len(argv)
        return self.command("run", "toy.toml", *checkpoints, *argv[:engine], *argv[engine:])

    def command(self, *argv: str) -> "subprocess.Popen[str]":
        """Another command on the same study."""
        return self._started.start("search", *argv)

    def close(self) -> None:
        self._started.close()


@pytest.fixture
def runner(tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(environment: dict[str, str] | None = None) -> Run:
        made.append(Run(tmp_path, postgres_url, environment or dict(os.environ)))
        return made[-1]

    yield make
    for run in made:
        run.close()


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for something that is bound to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
