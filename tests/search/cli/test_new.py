"""`new` writes what runs as it is, and overwrites nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_hpo.cli import main as fmnist_hpo
from search.cli.app import main
from search.spec import read_spec


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.process
def test_a_new_problem_passes_its_test_and_its_study_runs(folder: Path):
    assert main(["new", "my-study", "--problem"]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "my-study.toml", "my_study.py", "test_my_study.py",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_study.py"]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    command = [sys.executable, "-m", "search", "run", "my-study.toml", "--workers", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "12 of 12 trials ended" in done.stdout, done.stdout + done.stderr


def test_the_study_of_images_is_valid(folder: Path):
    assert fmnist_hpo(["new", "mine"]) == 0
    assert read_spec(folder / "mine.toml").name == "mine"
    assert fmnist_hpo(["best", "mine.toml"]) == 2


def test_nothing_is_overwritten(folder: Path, capsys):
    (folder / "test_mine.py").write_text("precious")
    assert main(["new", "mine", "--problem"]) == 2
    assert "error: test_mine.py exists already" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["test_mine.py"]
    assert (folder / "test_mine.py").read_text() == "precious"


@pytest.mark.parametrize("name", ["../x", "a b", "", "x" * 101])
def test_a_name_that_is_none_is_one_line(name: str, folder: Path, capsys):
    assert main(["new", name]) == 2
    assert "name must be 1 to 100 letters" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_module_needs_a_name_that_python_takes(folder: Path, capsys):
    assert main(["new", "2026", "--problem"]) == 2
    assert "a problem's module begins with a letter" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["class", "test", "json", "search"])
def test_a_module_that_python_would_not_find_is_not_written(name: str, folder: Path, capsys):
    assert main(["new", name, "--problem"]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
    (folder / "mine").mkdir()  # no module
    assert main(["new", "mine", "--problem"]) == 0
