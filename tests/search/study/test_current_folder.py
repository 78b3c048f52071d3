"""Files in the current folder replace no other module."""

import subprocess
import sys
from pathlib import Path

import pytest
from toy import toy_spec

from search.errors import ProblemError
from search.spec import parse_spec
from search.study import load_problem

PROBLEM = """
class Own:
    def __init__(self, settings): pass
    def check(self, params): pass
    def fingerprint(self): return {}
    def environment(self): return {}
    def run(self, trial): return 0.5
"""


def load(problem: str) -> object:
    return load_problem(parse_spec(toy_spec(problem), where="here"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the path and the modules are as before at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_problem_in_the_current_folder_is_found_last_of_all(here: Path) -> None:
    (here / "own_problem_here.py").write_text(PROBLEM)
    assert type(load("own_problem_here:Own")).__name__ == "Own"
    assert sys.path[-1] == str(here)


def test_a_module_that_another_hides_is_named(here: Path, caplog) -> None:
    for name in ("search.py", "json.py", "optuna.py", "unused_name_here.py"):
        (here / name).write_text("raise SystemExit('imported')")
    (here / "own_problem_beside.py").write_text(PROBLEM)
    for _ in range(2):  # to create the study, and to run it
        load("own_problem_beside:Own")
    (record,) = caplog.records
    assert record.getMessage().startswith("json.py, optuna.py, search.py in the current folder")
    with pytest.raises(ProblemError, match="search has no 'Own'; rename search in the current"):
        load("search:Own")


@pytest.mark.slow
@pytest.mark.process
def test_files_beside_the_study_do_not_stop_its_workers(tmp_path: Path) -> None:
    for name in ("search.py", "torch.py", "optuna.py", "copy.py"):
        (tmp_path / name).write_text("raise RuntimeError('imported')")
    (tmp_path / "mine.py").write_text(PROBLEM)
    (tmp_path / "toy.toml").write_text(toy_spec("mine:Own", trials=2))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "search", "run", "toy.toml", "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials ended" in done.stdout
