"""`diff STUDY A B`: what two trials have alike, and what not."""

import json
import threading

import pytest

import search
from search import attributes
from search.cli import app
from search.study.views.trial_pair import pair_of
from search.worker.worker import work

SPACE = "x = { float = [0.0, 1.0] }\nsteps = { int = [2, 9] }"


@pytest.fixture
def study(make_study, sqlite_url):
    """Two trials of 3 and 12 steps, on machines that differ in one thing."""
    study = make_study(
        trials=3,
        space=SPACE,
        extra='[fixed]\npause = 0.0\n[[trials]]\nname = "short"\nparams = { x = 0.25, steps = 3 }\n'
        '[[trials]]\nname = "long"\nparams = { x = 0.25, steps = 9 }',
    )
    work(study, name="w", stop=threading.Event())
    for trial, version in zip(study.trials[:2], ("1", "2"), strict=True):
        with study.storage.engine.begin() as connection:
            connection.exec_driver_sql(
                "update trial_user_attributes set value_json = "
                f"'{json.dumps({'machine': 'a', 'version': version})}' "
                f"where key = '{attributes.ENVIRONMENT}' and trial_id = {trial._trial_id}"
            )
    reopened = search.open("toy", storage=sqlite_url)  # the other one has read the trials before
    yield reopened
    reopened.storage.close()


def test_two_trials_side_by_side(study, sqlite_url, capsys):
    pair = pair_of(study, 0, 1)
    first, second = study.trials[:2]
    assert [name for name in pair.params if pair.differs(name)] == ["steps"]
    assert pair.params["pause"] == (0.0, 0.0)
    assert list(pair.curves) == ["value", "double"]
    both = (first.intermediate_values, second.intermediate_values)
    assert pair.curves["value"] == {n: (both[0][n], both[1][n]) for n in (1, 2, 3)}
    assert pair.last["value"] == ((3, both[0][3]), (9, both[1][9]))
    assert pair.last["double"] == ((3, 2 * both[0][3]), (9, 2 * both[1][9]))
    assert dict(pair.environment) == {"version": ("1", "2")}
    assert [(c.steps, c.attempts, c.lost, c.workers) for c in pair.cost] == [
        (3, 1, 0, ("w",)),
        (9, 1, 0, ("w",)),
    ]
    assert app.main(["diff", "toy", "0", "1", "--storage", sqlite_url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["steps", "3", "9"] in lines
    assert ["version", "1", "2"] in lines
    assert ["parameters", "alike:", "x=0.25", "pause=0"] in [sorted_alike(line) for line in lines]


def sorted_alike(line):
    return [*line[:2], *sorted(line[2:], reverse=True)] if line[:1] == ["parameters"] else line


def test_as_json(study, sqlite_url, capsys):
    assert app.main(["diff", "toy", "1", "0", "--json", "--storage", sqlite_url]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {
        "study", "trials", "metrics", "params", "differing", "curves", "last", "environment",
    }  # fmt: skip
    assert [one["trial"] for one in found["trials"]] == [1, 0]
    assert found["differing"] == ["steps"]
    assert found["params"]["steps"] == [9, 3]
    assert found["curves"]["value"]["steps"] == [1, 2, 3]
    assert found["last"]["value"][0]["step"] == 9


def test_trials_without_a_common_step(study, sqlite_url, capsys):
    claim = study.ledger.claim("other")
    assert claim is None  # all have ended
    study.ledger.storage.optuna.create_new_trial(study.ledger.study_id)
    assert app.main(["diff", "toy", "0", "3", "--storage", sqlite_url]) == 0
    out = capsys.readouterr().out
    assert "running" in out
    assert "at step" not in out


def test_a_number_that_no_trial_has(study, sqlite_url, capsys):
    assert app.main(["diff", "toy", "0", "7", "--storage", sqlite_url]) == 2
    line = "error: study 'toy' has no trial 7; name one of 0 to 2\n"
    assert capsys.readouterr().err == line


def test_a_study_without_trials_says_so(make_study, sqlite_url, capsys):
    make_study(trials=3)
    assert app.main(["diff", "toy", "0", "1", "--storage", sqlite_url]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: study 'toy' has no trial 0; begin with `")
    assert said.endswith(f" run toy --storage {sqlite_url}`\n")
