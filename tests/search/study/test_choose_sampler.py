"""Which sampler a study gets, and why; what freeze-thaw refuses, in one line."""

import pytest
from toy import Toy, toy_spec

import search
from search.cli import app
from search.errors import SearchError, SpecError
from search.spec import parse_spec
from search.study import create_study, open_study
from search.study.choose_sampler import choose_sampler
from search.study.load_problem import load_problem

NAMED = '[sampler]\nname = "freeze-thaw"\n'
PAUSES = "freeze-thaw"


def text(problem="toy:Pausing", *, budget="steps = 30", extra="", **more):
    return toy_spec(problem, budget=budget, extra=extra, **more)


def chosen(text):
    spec = parse_spec(text, where="toy.toml")
    return choose_sampler(spec, load_problem(spec))


@pytest.mark.parametrize("budget", ["steps = 30", "hours = 0.5", "steps = 30\nhours = 0.5"])
@pytest.mark.parametrize("extra", ["", '[sampler]\nname = "auto"\n', "[audit]\nfraction = 0.1\n"])
def test_auto_is_freeze_thaw_where_trials_can_be_paused(budget, extra):
    sampler = chosen(text(budget=budget, extra=extra))
    assert (sampler.name, sampler.reason) == (
        PAUSES, "its trials can be paused, and the budget ends the search",
    )  # fmt: skip


REFUSED = [
    ({"budget": ""}, "needs a budget of hours or steps", "got neither", "add budget.hours"),
    ({"extra": '[pruner]\nname = "median"\n'}, "needs a study without pruner",
     "got the pruner median", "remove [pruner]"),
    ({"problem": "toy:Toy"}, "needs a problem whose trials can be paused",
     "got toy:Toy without the method last_step", "see search.problem.Resumable"),
    ({"extra": "[fixed]\nsteps = 2000\n"}, "needs a problem whose trials can be paused",
     "got one that says: need steps <= 1000, got 2000; lower it", "change that"),
    ({"space": "x = { float = [0.0, 1.0] }\nsteps = { int = [1, 2000] }"},
     "needs a problem whose trials can be paused", "need steps <= 1000, got 2000", "change that"),
    ({"extra": '[[trials]]\nname = "a"\nparams = { x = 0.5, steps = 2000 }\n'},
     "needs a problem whose trials can be paused", "need steps <= 1000, got 2000", "change that"),
    ({"space": "", "extra": '[[trials]]\nname = "a"\nparams = { x = 0.5 }\n', "trials": 1},
     "needs a [space]", "got none", "declare one"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "rule", "got", "remedy"), REFUSED)
def test_auto_is_tpe_elsewhere_and_freeze_thaw_is_refused(options, rule, got, remedy, sqlite_url):
    sampler = chosen(text(**options))
    assert sampler.name == "tpe"
    assert rule in sampler.reason
    assert got in sampler.reason
    refused = text(**{**options, "extra": NAMED + options.get("extra", "")})
    with pytest.raises(SpecError) as caught:
        search.create(refused, storage=sqlite_url)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (rule, got, remedy, "or name another sampler"))


def test_cross_validation_has_no_curve_over_steps():
    refused = 'mode = "cross-validation"\n' + text(extra=NAMED)
    with pytest.raises(SpecError, match='mode = "holdout".*got mode = "cross-validation"'):
        parse_spec(refused, where="toy.toml")


def test_an_audit_needs_something_that_ends_trials():
    refused = text(budget="", extra="[audit]\nfraction = 0.5\n")
    with pytest.raises(SpecError, match=r"got no \[pruner\], and no freeze-thaw, which needs a bu"):
        chosen(refused)


def test_options_without_a_name_are_those_of_tpe():
    spec = parse_spec(text(extra="[sampler]\nn_startup_trials = 3\n"), where="toy.toml")
    assert (spec.sampler.name, spec.sampler.options) == ("tpe", {"n_startup_trials": 3})
    with pytest.raises(SpecError, match="the auto sampler has no option 'n_startup_trials'; tpe"):
        parse_spec(text(extra='[sampler]\nname = "auto"\nn_startup_trials = 3\n'), where="x.toml")


def test_the_choice_is_stored_with_the_study(sqlite_url, tmp_path, capsys):
    study = search.create(text(), storage=sqlite_url, checkpoints=str(tmp_path))
    again = open_study("toy", study.storage)
    vars(again)["problem"] = Toy({})  # another version of the problem
    assert again.sampler == study.sampler
    assert again.spec.sampler.name == PAUSES
    assert app.main(["status", "toy", "--storage", sqlite_url]) == 0
    assert "sampler freeze-thaw: its trials can be paused" in capsys.readouterr().out
    with pytest.raises(SearchError, match="pauses its trials, got the problem 'toy:Pausing' with"):
        again.last_step({"x": 0.5})
    study.storage.close()


def test_a_study_of_an_older_version_keeps_tpe(make_study, monkeypatch):
    study = make_study(trials=2)
    attrs = {key: value for key, value in study.ledger.attrs.items() if key != "search:sampler"}
    monkeypatch.setattr(
        "search.ledger.ledger.study_attrs", lambda *_: (study.ledger.study_id, attrs)
    )
    old = open_study("toy", study.storage)
    assert (old.spec.sampler.name, old.sampler.reason) == (
        "tpe", "the study was created by an older version",
    )  # fmt: skip


def test_a_last_step_that_is_none_is_the_problems_mistake(monkeypatch):
    monkeypatch.setattr("toy.Pausing.last_step", lambda self, params: 0)
    with pytest.raises(SearchError, match="last_step must return a whole number >= 1, got 0"):
        chosen(text())


def test_the_same_file_is_the_same_study(sqlite_url, tmp_path):
    study = search.create(text(), storage=sqlite_url, checkpoints=str(tmp_path))
    spec = parse_spec(text(), where="toy.toml")
    assert create_study(spec, study.storage).uid == study.uid
    study.storage.close()
