"""`run` on a study in which trials failed."""

import shlex
import sys
from pathlib import Path

import pytest
import toy
from confirmed_study import confirmed_spec

from search.cli import app
from search.cli.application import Application
from search.cli.commands import run as run_command
from search.storage import open_storage
from search.study import open_study

PROBLEM = """
from pathlib import Path
class Broken:
    def __init__(self, settings):
        pass
    def check(self, params):
        pass
    def fingerprint(self):
        return {}
    def environment(self):
        return {}
    def run(self, run):
        if Path("broken").exists() and run.params["x"] > 0.5:
            raise RuntimeError(f"no value at {run.params['x']}")
        run.report(1, run.params["x"])
        return run.params["x"]
"""
SPEC = """
problem = "broken_for_a_while:Broken"
name = "mended"
metric = "value"
direction = "maximize"
[budget]
trials = 2
[[trials]]
name = "right"
params = { x = 0.25 }
[[trials]]
name = "wrong"
params = { x = 0.75 }
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """The study `mended` in the current folder, whose problem is broken while the file is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_for_a_while.py").write_text(PROBLEM)
    (tmp_path / "mended.toml").write_text(SPEC)
    (tmp_path / "broken").touch()
    return tmp_path / "broken"


@pytest.mark.slow
@pytest.mark.process
def test_a_finished_study_names_the_commands_that_show_and_repeat_failed_trials(broken, capsys):
    storage = ["--storage", "sqlite:///a b.db"]
    assert app.main(["run", "mended.toml", "--workers", "1", *storage]) == 0
    out = capsys.readouterr().out
    assert "1 complete, 0 pruned, 1 failed (1 error)" in out
    broken.unlink()
    show, repeat = (shlex.split(part) for part in out.split("`") if part.startswith("python -m"))
    assert app.main(show[3:]) == 0
    assert "RuntimeError: no value at 0.75" in capsys.readouterr().out
    assert app.main(repeat[3:]) == 0
    assert "2 of 2 trials ended" in capsys.readouterr().out
    assert app.main(["run", "mended", "--retry-failed", *storage]) == 0
    out = capsys.readouterr().out
    assert "is finished: 2 of 2 trials ended" in out
    assert "--retry-failed" not in out


def test_a_place_in_which_no_checkpoint_can_be_written_is_refused_before_the_search(
    broken, tmp_path, capsys
):
    (tmp_path / "runs" / "mended").mkdir(parents=True)
    (tmp_path / "runs" / "mended" / "checkpoints").touch()
    assert app.main(["run", "mended.toml", "--storage", "sqlite:///s.db"]) == 2
    line = capsys.readouterr().err
    assert "checkpoints cannot be written to " in line and line.count("\n") == 1
    study = open_study("mended", open_storage("sqlite:///s.db"))
    assert study.status().begun == 0
    study.storage.close()


@pytest.mark.slow
@pytest.mark.process
def test_a_halt_on_the_last_trials_is_repeated_by_the_same_command(broken, tmp_path, capsys):
    (tmp_path / "broken_for_a_while.py").write_text(
        PROBLEM.replace("no value at {run.params['x']}", "no value")
    )
    named = "".join(f'[[trials]]\nname = "{n}"\nparams = {{ x = 0.{n}5 }}\n' for n in (2, 6, 7, 8))
    spec = SPEC[: SPEC.index("[[trials]]")].replace("trials = 2", "trials = 4") + named
    (tmp_path / "mended.toml").write_text(spec)
    run = ["run", "mended.toml", "--workers", "1", "--storage", "sqlite:///s.db"]
    for _ in range(2):  # it is halted again while the error is there
        assert app.main(run) == 2
        assert "was halted" in capsys.readouterr().err
    broken.unlink()
    assert app.main(run) == 0
    assert "4 of 4 trials ended" in capsys.readouterr().out
    study = open_study("mended", open_storage("sqlite:///s.db"))
    assert (study.status().complete, study.status().state) == (4, "finished")
    assert len(study.trials) == 10
    study.storage.close()


@pytest.mark.slow
@pytest.mark.process
def test_a_study_that_is_extended_during_its_confirmation_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(toy.__file__).parent))
    (tmp_path / "toy.toml").write_text(confirmed_spec(confirm="[confirm]\ntop = 2\nseeds = 2\n"))
    original, ended = run_command._confirm, []

    def extended_first(study, *args):
        ended.append(study.status().ended)
        if len(ended) == 1:
            open_study("toy", study.storage).extend(trials=2)
        return original(study, *args) if len(ended) > 1 else None

    finished = []
    monkeypatch.setattr(run_command, "_confirm", extended_first)
    monkeypatch.setattr(
        Application, "finish", lambda self, study, args: finished.append(study.status().ended) or 0
    )
    assert app.main(["run", "toy.toml", "--workers", "1", "--storage", "sqlite:///s.db"]) == 0
    assert (ended, finished) == ([8, 10], [10])
    assert "study 'toy' was changed meanwhile, so it goes on" in capsys.readouterr().out
