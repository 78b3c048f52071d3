"""The commands as a user types them, in processes of their own and an empty directory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slices import write_slice
from started import Started
from toy import toy_spec
from warm_process import run_warm

PROBLEMS = Path(__file__).parents[1] / "problems"


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
        self._started = Started(directory, self.environment)

    def __call__(self, *argv: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run to the end."""
        if argv[0] == "reproduce":  # sets the number of threads, which torch reads when it loads
            return self.fresh(*argv, timeout=timeout)
        return run_warm(
            "fmnist_hpo.cli",
            *argv,
            folder=self.directory,
            environment=self.environment,
            timeout=timeout,
        )

    def fresh(self, *argv: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run in a new interpreter, for what Python itself reads at its start."""
        return subprocess.run(
            [sys.executable, "-m", "fmnist_hpo.cli", *argv],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *argv: str, module: str = "fmnist_hpo.cli") -> "subprocess.Popen[str]":
        """Start and go on; whatever still runs at the end of the test is killed."""
        return self._started.start(module, *argv)

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
        self._started.close()


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
