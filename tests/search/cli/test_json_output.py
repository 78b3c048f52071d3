"""What `--json` prints is JSON with fixed keys, and says what the other forms say."""

import csv
import ctypes
import functools
import io
import json
import math
import subprocess
import threading

import numpy as np
import pytest
from toy import Toy, toy_spec

import search
from search.cli import app
from search.cli.json_output import print_json
from search.worker.worker import work

STATUS = {
    "study", "state", "metric", "direction", "budget", "ended", "complete", "pruned", "failed",
    "reasons", "elapsed_seconds", "remaining_seconds", "halted", "best", "running", "paused",
    "metrics", "front", "sampler", "begun", "steps", "most_steps", "amendments",
    "paused_since", "ended_by",
}  # fmt: skip
BUSY = {
    "worker", "trial", "lineage", "attempt", "step", "value", "since_seconds", "heartbeat_seconds",
    "params",
}  # fmt: skip


def printed(capsys, *argv):
    assert app.main(list(argv)) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_values_that_are_no_finite_number_are_null(capsys):
    print_json({"a": (math.nan, [math.inf, {"b": -math.inf}]), 1: "NaN"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [None, [None, {"b": None}]], "1": "NaN"}


def test_status_of_one_study_and_of_all(make_study, sqlite_url, capsys):
    study = make_study(trials=2)
    work(study, name="w", stop=threading.Event())
    one = printed(capsys, "status", "toy", "--json", "--storage", sqlite_url)
    assert one.keys() == STATUS | {"engine", "confirmation"}
    assert one.pop("engine") is None  # it has no workers on Slurm
    assert one.pop("confirmation") is None  # its file has no [confirm]
    best = study.best
    assert one["best"] == {
        "trial": best.number, "name": None, "value": best.value, "params": best.params,
        "metrics": {"value": best.value},
    }  # fmt: skip
    assert (one["metrics"], one["front"]) == ({"value": "maximize"}, [])
    assert (one["state"], one["budget"], one["ended"], one["complete"]) == ("finished", 2, 2, 2)
    assert (one["running"], one["remaining_seconds"], one["halted"]) == ([], None, None)
    assert printed(capsys, "status", "--json", "--storage", sqlite_url) == [one]


def test_status_shows_who_works_on_what(make_study, sqlite_url, capsys):
    study = make_study(trials=2)
    claim = study.ledger.claim("w")
    assert claim is not None
    status = printed(capsys, "status", "toy", "--json", "--storage", sqlite_url)
    (busy,) = status["running"]
    assert busy.keys() == BUSY
    assert (busy["worker"], busy["attempt"], busy["step"]) == ("w", 1, 0)
    assert status["state"] == "1 running"
    assert status["best"] is None


def test_status_of_a_halted_study_says_why(sqlite_url, tmp_path, capsys):
    study = search.create(
        toy_spec("toy:Failing", trials=5, extra='[fixed]\nhow = "error"'),
        storage=sqlite_url,
        checkpoints=str(tmp_path / "checkpoints"),
    )
    with pytest.raises(search.StudyHalted):
        search.work(study)
    status = printed(capsys, "status", "toy", "--json", "--storage", sqlite_url)
    assert status["state"] == "halted"
    assert isinstance(status["halted"], str) and status["halted"]
    study.storage.close()


def test_trials_are_those_of_the_csv_with_all_their_parameters(make_study, sqlite_url, capsys):
    study = make_study(trials=3, extra="[fixed]\nsteps = 2")
    work(study, name="w", stop=threading.Event())
    found = printed(capsys, "trials", "toy", "--json", "--storage", sqlite_url)
    assert app.main(["trials", "toy", "--csv", "--storage", sqlite_url]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(found) == len(rows) == 3
    for one, row, trial in zip(found, rows, study.trials, strict=True):
        assert one.pop("params") == {"steps": 2, **trial.params}
        assert {name: "" if value is None else str(value) for name, value in one.items()} == {
            name: value for name, value in row.items() if not name.startswith("param_")
        }


@pytest.mark.process
def test_what_a_problem_prints_is_not_on_the_standard_output(
    make_study, sqlite_url, tmp_path, monkeypatch, capfd
):
    @functools.cache  # `check` is called hundreds of times
    def shout(argv):
        print("from Python")
        ctypes.CDLL(None).puts(b"from C")
        subprocess.run(["echo", "from a child"], check=True)

    def loud(method):
        def wrapped(self, *args):
            shout(tuple(argv))
            return method(self, *args)

        return wrapped

    def reports(self, run):
        run.report(np.int64(1), np.float32(0.1), double=np.float32(math.nan))
        return np.float32(0.1)

    work(make_study(trials=1), name="w", stop=threading.Event())
    study = make_study(name="numpy", trials=1)
    monkeypatch.setattr(Toy, "run", reports)
    work(study, name="w", stop=threading.Event())
    (tmp_path / "toy.toml").write_text(toy_spec(space="x = { float = [0.0, 2.0] }"))
    monkeypatch.setattr(Toy, "run", loud(reports))
    monkeypatch.setattr(Toy, "check", loud(lambda self, params: None))
    capfd.readouterr()
    for argv in (
        ["reproduce", "numpy"],
        ["add", "toy", "--params", "x=0.5"],
        ["amend", "toy", "toy.toml", "--yes"],
        ["plan", "toy.toml"],
    ):
        storage = [] if argv[0] == "plan" else ["--storage", sqlite_url]
        assert app.main([*argv, "--json", *storage]) == 0
        out, err = capfd.readouterr()
        assert out.startswith("{"), (argv, out, err)
        json.loads(out)
        assert {"from Python", "from C", "from a child"} <= {*err.splitlines()}
