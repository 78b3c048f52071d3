"""What people and programs are shown of paused trials."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import toy
from rich.console import Console

from search.cli import app
from search.cli.progress import PlainProgress, make_status
from search.dashboard.private import stored_note
from search.study import Study
from search.supervisor.run import annotate
from search.text import figure
from search.worker.worker import work

EXTRA = """
[sampler]
name = "freeze-thaw"
[fixed]
steps = 12
[[trials]]
name = "first"
params = { x = 0.25 }
[[trials]]
name = "short"
params = { x = 0.5, steps = 1 }
"""
STATES = {"paused", "complete"}


@pytest.fixture
def halfway(make_study, monkeypatch) -> Study:
    """A study that was stopped when some of its trials were paused."""
    study = make_study("toy:Pausing", trials=40, budget="steps = 30", extra=EXTRA)
    stop, pause = threading.Event(), study.ledger.pause

    def stop_after_three(claim):
        pause(claim)
        if study.ledger.counts().paused == 3:
            stop.set()

    monkeypatch.setattr(study.ledger, "pause", stop_after_three)
    assert not work(study, name="w", stop=stop)
    return study


def test_plain_output_tells_of_paused_trials_every_half_minute(halfway, capsys):
    progress = PlainProgress()
    for seconds in (1.0, 31.0, 40.0, 62.0):
        progress.update(dataclasses.replace(halfway.status(), elapsed_seconds=seconds))
    lines = [line for line in capsys.readouterr().out.splitlines() if "most promising" in line]
    assert [line.split("]")[0] for line in lines] == ["[0:31", "[1:02"]
    paused = halfway.status().paused
    assert f"{len(paused)} paused" in lines[0] and f"trial {paused[0].number} at" in lines[0]


def test_status(halfway, sqlite_url, capsys):
    status = halfway.status()
    assert (status.sampler, len(status.paused), status.begun) == ("freeze-thaw", 3, 4)
    assert status.steps == halfway.ledger.steps()
    expected = [one.expected for one in status.paused]
    assert expected == sorted(expected, reverse=True)
    assert all(one.deviation > 0 for one in status.paused)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(make_status(status))
    lines = capture.get().splitlines()
    assert f"paused 3 · steps {status.steps} of 30" in lines[1]
    assert "sampler freeze-thaw: the study file names it" in lines[3]
    (head,) = (n for n, line in enumerate(lines) if "expected at its end" in line)
    for line, one in zip(lines[head + 1 :], status.paused, strict=True):
        assert f"{figure(one.expected)} ± {one.deviation:.2g}" in line
    assert any("first x=0.25" in line for line in lines)
    assert app.main(["status", "toy", "--json", "--storage", sqlite_url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["trial"] for one in shown["paused"]] == [one.number for one in status.paused]
    assert shown["paused"][0]["expected"] == pytest.approx(expected[0])
    assert (shown["steps"], shown["most_steps"], shown["begun"]) == (status.steps, 30, 4)
    assert shown["sampler"] == {"name": "freeze-thaw", "reason": "the study file names it"}


def test_trials(halfway, sqlite_url, capsys):
    assert app.main(["trials", "toy", "--json", "--storage", sqlite_url]) == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)} == STATES
    assert app.main(["trials", "toy", "--csv", "--storage", sqlite_url]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert {row["state"] for row in rows} == STATES
    assert set(halfway.trials_frame()["state"]) == STATES
    assert app.main(["trials", "toy", "--storage", sqlite_url]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]} == STATES


def test_the_dashboards_note(halfway):
    annotate(halfway)
    assert "**Trials:** 1 complete, 3 paused" in stored_note(halfway.optuna)


def test_expectations_are_not_computed_again_and_again(halfway, monkeypatch):
    asked = []
    decision = "search.sampling.freeze_thaw.decision.expected"
    monkeypatch.setattr(decision, lambda *_, **__: asked.append(1) or {})
    for _ in range(3):
        halfway.status()
    assert len(asked) == 1


@pytest.mark.slow
@pytest.mark.process
def test_the_end_says_what_was_paused(halfway, sqlite_url):
    done = subprocess.run(
        [sys.executable, "-m", "search", "run", "toy", "--workers", "1", "--storage", sqlite_url],
        env={**os.environ, "PYTHONPATH": str(Path(toy.__file__).parent)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = done.stdout
    status = halfway.status()
    assert (status.over, status.state, list(status.paused)) == (True, "out of steps", [])
    assert f"{status.ended} of 40 trials ended" in out
    spent = status.reasons["out-of-budget"]
    assert f"{spent} out-of-budget" in out
    assert out.count("out-of-budget") == 2  # the sum, and one line of those that ended together
    assert f"] {spent} trials out-of-budget" in out
