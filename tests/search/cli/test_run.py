"""`run` on a study in which trials failed."""

import shlex
import sys

import pytest

from search.cli import app

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


@pytest.mark.slow
@pytest.mark.process
def test_a_finished_study_names_the_commands_that_show_and_repeat_failed_trials(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_for_a_while.py").write_text(PROBLEM)
    (tmp_path / "mended.toml").write_text(SPEC)
    (tmp_path / "broken").touch()
    storage = ["--storage", "sqlite:///a b.db"]
    assert app.main(["run", "mended.toml", "--workers", "1", *storage]) == 0
    out = capsys.readouterr().out
    assert "1 complete, 0 pruned, 1 failed (1 error)" in out
    (tmp_path / "broken").unlink()
    show, repeat = (shlex.split(part) for part in out.split("`") if part.startswith("python -m"))
    assert app.main(show[3:]) == 0
    assert "RuntimeError: no value at 0.75" in capsys.readouterr().out
    assert app.main(repeat[3:]) == 0
    assert "2 of 2 trials ended" in capsys.readouterr().out
    assert app.main(["run", "mended", "--retry-failed", *storage]) == 0
    out = capsys.readouterr().out
    assert "is finished: 2 of 2 trials ended" in out
    assert "--retry-failed" not in out
