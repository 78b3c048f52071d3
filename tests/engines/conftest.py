"""Real engines, started by the tests."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import ray_cluster
import slurm_cluster
from slurm_cluster import SlurmCluster
from started import Started
from toy import toy_spec

import search
from search.study import Study

PROBLEMS = Path(__file__).parents[1] / "problems"
START_SECONDS = 200  # for something that is bound to happen


@pytest.fixture(scope="session")
def slurm_cluster_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if reason := slurm_cluster.why_not():
        pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


@pytest.fixture
def slurm(slurm_cluster_of_two: SlurmCluster) -> Iterator[SlurmCluster]:
    """Two nodes of four CPUs, which no job of an earlier test uses."""
    yield slurm_cluster_of_two
    slurm_cluster_of_two.clear()


@pytest.fixture(scope="session")
def cluster_of_ray() -> Iterator[Any]:
    """A head and two nodes of two CPUs and a GPU, each a raylet of its own."""
    if find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ray_cluster.SETTINGS.items():
            patched.setenv(name, value)
        made = ray_cluster.start()
        yield made
        made.shutdown()


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

    def create(self, *, trials: int) -> Study:
        """Write and create a study whose trials wait after their first step for `open_gate`."""
        tables = (
            "[workers]\nheartbeat_seconds = 1.0\n[fixed]\nsteps = 3\n"
            f'[data]\ngate = "{self.folder / "gate"}"'
        )
        spec = toy_spec("toy:Gated", trials=trials, extra=tables)
        (self.folder / "toy.toml").write_text(spec)
        checkpoints = str(self.folder / "checkpoints")
        return search.create(spec, storage=self.storage, checkpoints=checkpoints)

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

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
