"""`logs STUDY --trial N`: the part of a worker's log that is one trial's."""

import json
import logging
import threading
from pathlib import Path

import pytest
from toy import toy_spec

import search
from search.cli import app
from search.logs import show_records
from search.worker.worker import work


@pytest.fixture
def study(tmp_path, monkeypatch, sqlite_url):
    """Three trials; the first one was stopped once. Workers `one` and `two` logged, `away` not."""
    monkeypatch.chdir(tmp_path)
    study = search.create(toy_spec(trials=3), storage=sqlite_url)
    stop = threading.Event()
    logged("one", work, study, stop=stop, after=stop.set)
    claim = study.ledger.claim("two")
    study.ledger.release(claim)
    logged("two", work, study, stop=threading.Event())
    yield study
    study.storage.close()


def logged(name, work, study, *, stop, after=lambda: None):
    """Work as a worker of that name, with its log where a launcher puts it."""
    file = Path("runs/toy/logs") / f"{name}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        show_records(lambda line: print(line, file=out, flush=True), stamped=True)
        try:
            work(study, name=name, stop=stop, on_trial=after)
        finally:
            show_records(lambda line: None, level=logging.WARNING)


def printed(capsys, *argv, code=0):
    assert app.main(["logs", "toy", *argv]) == code
    out, err = capsys.readouterr()
    return out + err


def test_the_part_of_the_log_that_is_the_trials(study, sqlite_url, capsys):
    out = printed(capsys, "--trial", "0", "--storage", sqlite_url)
    assert [line.split(" INFO ")[1] for line in out.splitlines()] == [
        "trial 0 begins",
        "trial 0 ended COMPLETE",
    ]
    out = printed(capsys, "--trial", "1", "--storage", sqlite_url)
    missing, *lines = out.splitlines()
    assert missing.startswith("attempt 1: there is no runs/toy/logs/two.log") or lines
    assert [line.split(" INFO ")[1] for line in lines][-2:] == [
        "trial 1 goes on with attempt 2",
        "trial 1 ended COMPLETE",
    ]
    assert "trial 2" not in out


def test_as_json(study, sqlite_url, capsys):
    found = json.loads(printed(capsys, "--trial", "1", "--json", "--storage", sqlite_url))
    assert [(a["attempt"], a["worker"], a["how"]) for a in found["attempts"]] == [
        (1, "two", "stopped"),
        (2, "two", "complete"),
    ]
    assert "goes on with attempt 2" in found["attempts"][1]["text"]


def test_a_log_that_does_not_lie_here_is_one_line(study, sqlite_url, capsys, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    out = printed(capsys, "--trial", "0", "--storage", sqlite_url, code=2)
    assert out.count("\n") == 1
    assert "there is no runs/toy/logs/one.log; worker one was started from another folder" in out


def test_a_log_of_an_older_version_is_shown_whole(study, sqlite_url, capsys):
    Path("runs/toy/logs/one.log").write_text("2026-01-01T00:00:00Z INFO trial 0 ended COMPLETE\n")
    assert "trial 0 ended" in printed(capsys, "--trial", "0", "--storage", sqlite_url)


def test_follow_ends_with_the_trial(study, sqlite_url, capsys):
    out = printed(capsys, "--trial", "2", "--follow", "--storage", sqlite_url)
    assert [line.split(" INFO ")[1] for line in out.splitlines()] == [
        "trial 2 begins",
        "trial 2 ended COMPLETE",
    ]


def test_a_trial_that_another_program_added(study, sqlite_url, capsys):
    study.optuna.add_trial(study.trials[0])
    assert "no worker ran trial 3" in printed(
        capsys, "--trial", "3", "--storage", sqlite_url, code=2
    )
