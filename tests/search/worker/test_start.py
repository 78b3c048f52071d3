"""How a worker's process begins while the storage is not there."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from search.storage import open_storage
from search.worker.contract import NAME_VARIABLE, NOTE_VARIABLE, Left, read_note

pytestmark = [pytest.mark.process, pytest.mark.slow]

AWAY = "postgresql://user@127.0.0.1:1/studies"  # nobody listens there


def start(
    storage: str, note: Path, monkeypatch: pytest.MonkeyPatch, *, name: str = ""
) -> "subprocess.Popen[str]":
    """A worker as an engine starts it that only knows its name, if it has one."""
    monkeypatch.setenv(NAME_VARIABLE, name)
    monkeypatch.setenv(NOTE_VARIABLE, str(note))
    command = [sys.executable, "-m", "search", "worker", "toy", "--storage", storage]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_that_an_engine_starts_waits_for_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its exit code 2 would end the run, or the Job, of all the others."""
    with start(AWAY, tmp_path / "note", monkeypatch, name="slurm-7_0.0") as process:
        assert process.stdout is not None
        assert "Connection refused" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=300)
    assert (process.returncode, output, errors) == (Left.ASKED, "", "")
    assert read_note(tmp_path / "note") == (Left.ASKED, "")


def test_one_that_a_person_starts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(AWAY, tmp_path / "note", monkeypatch) as process:
        output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (Left.REFUSED, "")
    assert "is it running, and the URL right?" in errors


def test_tables_of_another_version_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(f"sqlite:///{tmp_path / 'study.db'}").close()
    with closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        database.execute("UPDATE search_schema SET version = 99")
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    with start(storage, tmp_path / "note", monkeypatch, name="slurm-7_0.0") as process:
        process.communicate(timeout=300)
    assert process.returncode == Left.REFUSED
    found = read_note(tmp_path / "note")
    assert found is not None
    assert "version 99" in found[1]
