"""The commands as a user types them, in processes of their own and an empty directory."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from slices import write_slice
from toy import toy_spec

PROBLEMS = Path(__file__).parents[1] / "problems"


#: Commands that run to their end are forked from a process that has these already: to import them
#: takes most commands longer than what they do.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "fmnist_hpo.export",
        "fmnist_hpo.evaluation",
        "fmnist_hpo.training",
        "search.service",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "optuna_dashboard",
        "sklearn.model_selection",
    ]
)


def _run(
    argv: Sequence[str], directory: Path, environment: Mapping[str, str], out: str, err: str
) -> None:
    """In a process of its own: be the command."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY), descriptor)
    sys.argv = ["fmnist-hpo", *argv]
    from fmnist_hpo.cli import main

    sys.exit(main(argv))


class Command:
    """Runs `fmnist-hpo` in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(PROBLEMS),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "",
        }
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, *argv: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run to the end."""
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            process = FORKS.Process(
                target=_run, args=(argv, self.directory, self.environment, out.name, err.name)
            )
            process.start()
            process.join(timeout)
            if process.exitcode is None:
                process.kill()
                process.join()
                raise subprocess.TimeoutExpired(argv, timeout, out.read(), err.read())
            return subprocess.CompletedProcess(argv, process.exitcode, out.read(), err.read())

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        """Start and go on; whatever still runs at the end of the test is killed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "fmnist_hpo.cli", *argv],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def error(self, *argv: str) -> str:
        """The one line of an error: exit code 2, nothing else on stderr, no traceback."""
        done = self(*argv)
        assert done.returncode == 2, done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    def study(self, *args: str, **options: object) -> Path:
        """Write a toy study file."""
        path = self.directory / "toy.toml"
        path.write_text(toy_spec(*args, **options))  # type: ignore[arg-type]
        return path

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command in an empty directory."""
    made = Command(tmp_path)
    yield made
    made.close()


@pytest.fixture
def sliced(command: Command) -> Command:
    """The first 2,000 training and 500 test images, as a data set of one's own."""
    write_slice(command.directory / "data")
    return command
