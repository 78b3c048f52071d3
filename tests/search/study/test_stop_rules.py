"""A target or a patience ends a search: N is then the most, and what ended it is recorded."""

import json
import threading
from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState
from toy import toy_spec

import search
from search.cli import app
from search.spec import parse_spec
from search.study.stop_rules import find_met
from search.supervisor.run import annotate
from search.worker.worker import work

GIVEN = "".join(
    f'[[trials]]\nname = "t{n}"\nparams = {{ x = {x} }}\n'
    for n, x in enumerate([0.2, 0.6, 0.5, 0.6, 0.9, 0.3])
)


def improving(make_study, budget, **options):
    return make_study("toy:Improving", trials=6, budget=budget, extra=GIVEN, **options)


def run(study):
    return work(study, name="w", stop=threading.Event())


@pytest.mark.parametrize(
    ("budget", "ended", "rule", "trial", "state"),
    [
        ("target = 0.6", 2, "target", 1, "target reached"),
        ("target = 0.95", 6, None, None, "finished"),
        ("patience = 2", 4, "patience", 1, "out of patience"),  # an equal value is no better one
        ("patience = 3", 6, None, None, "finished"),
        ("target = 0.9\npatience = 2", 4, "patience", 1, "out of patience"),
    ],
)
def test_the_rule_that_holds_first_ends_the_study(make_study, budget, ended, rule, trial, state):
    study = improving(make_study, budget)
    assert run(study)
    status = study.status()
    assert (status.ended, status.state, status.over) == (ended, state, True)
    end = status.ended_by
    assert (None if end is None else (end.rule, end.trial)) == (rule and (rule, trial))
    assert study.ledger.counts().begun == ended


def test_a_smaller_value_may_be_the_better_one():
    text = toy_spec(budget="target = 0.1").replace('"maximize"', '"minimize"')
    spec = parse_spec(text, where="toy")
    assert find_met(spec, [], {}, since=0) is None


def test_the_databases_clock_says_which_trial_ended_first():
    """A worker's clock was put back: the newest trial, the best, seems to be the oldest."""
    spec = parse_spec(toy_spec(budget="patience = 2"), where="toy")
    noon = datetime(2026, 10, 25, 12)  # noqa: DTZ001 - as Optuna has it
    values, hours = [0.1, 0.2, 0.3, 0.4], [0, 1, 2, -5]
    trials = [
        FrozenTrial(
            number=number, trial_id=number, state=TrialState.COMPLETE, value=value, params={},
            distributions={}, user_attrs={}, system_attrs={}, intermediate_values={},
            datetime_start=noon, datetime_complete=noon + timedelta(hours=later),
        )
        for number, (value, later) in enumerate(zip(values, hours, strict=True))
    ]  # fmt: skip
    ended = {number: float(number) for number in range(4)}
    assert find_met(spec, trials, ended, since=0) is None
    met = find_met(spec, trials, {number: -when for number, when in ended.items()}, since=0)
    assert (met.rule, met.trial) == ("patience", 3)


@pytest.mark.slow
def test_running_trials_end_as_usual_and_none_begins(make_study, storage_url):
    study = improving(make_study, "target = 0.2", storage=storage_url)
    claims = [study.ledger.claim(name) for name in ("a", "b")]
    study.ledger.end(claims[0], study.trials[0].state.COMPLETE, 0.2)
    end = study.ended_by()
    assert end is not None
    assert end == study.ledger.standing().ended_by
    assert study.ledger.claim("c") is None
    study.ledger.release(claims[1])
    again = study.ledger.claim("c")  # what was interrupted goes on
    assert again is not None
    assert again.trial.number == 1
    assert not study.status().over
    study.ledger.end(again, study.trials[0].state.COMPLETE, 0.6)
    assert study.status().over
    assert run(study)
    assert study.status().ended == 2


def test_who_extends_a_study_that_ran_out_of_patience_sees_more_trials(make_study):
    study = make_study("toy:Improving", trials=6, budget="patience = 2", extra=GIVEN)
    run(study)
    assert study.status().ended == 4
    study.extend(trials=2)
    assert study.status().ended_by is None
    run(study)
    assert study.status().ended >= 6
    assert max(t.value for t in study.trials) >= 0.9


def test_patience_counts_on_where_the_refit_alone_is_amended(make_study):
    study = make_study("toy:Improving", trials=6, budget="patience = 2", extra=GIVEN)
    stop = threading.Event()

    def enough() -> None:
        if len(study.trials) == 3:  # one of them without a better value
            stop.set()

    assert not work(study, name="w", stop=stop, on_trial=enough)
    refit = "[refit]\ny = 1\n"
    study.amend(toy_spec("toy:Improving", trials=6, budget="patience = 2", extra=f"{GIVEN}{refit}"))
    run(study)
    assert (study.status().ended, study.status().state) == (4, "out of patience")


def test_a_target_that_is_reached_stays_reached(make_study, sqlite_url, capsys):
    study = improving(make_study, "target = 0.6")
    run(study)
    assert app.main(["extend", "toy", "--trials", "+1", "--storage", sqlite_url]) == 0
    out = capsys.readouterr().out
    assert "no trial begins, as trial 1 reached the target: value 0.6, wanted 0.6" in out
    run(study)
    assert study.status().ended == 2


def test_an_amendment_made_meanwhile_voids_what_was_found(make_study):
    study = improving(make_study, "target = 0.6")
    assert study.ledger.end_by("target", 1, "it", amendment=0) is not None
    study.extend(trials=1)
    assert study.ledger.end_by("target", 1, "it", amendment=0) is None
    assert study.status().ended_by is None


def test_it_is_said_wherever_the_study_is_shown(make_study, sqlite_url, capsys):
    study = improving(make_study, "target = 0.6")
    run(study)
    assert app.main(["status", "toy", "--storage", sqlite_url]) == 0
    said = "trial 1 reached the target: value 0.6, wanted 0.6"
    assert said in capsys.readouterr().out
    assert app.main(["status", "toy", "--json", "--storage", sqlite_url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["ended_by"]["rule"]) == ("target reached", "target")
    annotate(study)
    notes = study.storage.optuna.get_study_system_attrs(study.ledger.study_id)
    assert any(f"The search ended as {said}." in str(note) for note in notes.values())
    from search.report.study_report import StudyReport

    report = StudyReport.of(study, lambda params: None)
    assert f"The search ended as {said}." in report.summary()
    assert "6 trials or the target of 0.6, whichever comes first" in study.spec.budget


@pytest.mark.slow
def test_paused_trials_end_with_the_search(make_study):
    study = make_study("toy:Pausing", trials=6, budget="steps = 14\npatience = 1",
                       extra='[sampler]\nname = "freeze-thaw"')  # fmt: skip
    run(study)
    status = study.status()
    assert status.ended == status.begun
    assert status.paused == ()


@pytest.mark.slow
def test_a_confirmation_that_is_added_does_not_let_the_search_go_on(make_study):
    study = improving(make_study, "patience = 2")
    run(study)
    assert study.status().ended == 4
    confirm = '[confirm]\ntop = 2\nseeds = 2\nsplits = "same"\n'
    study.amend(
        toy_spec("toy:Improving", trials=6, budget="patience = 2", extra=f"{GIVEN}{confirm}")
    )
    assert study.status().over
    search.work(study)
    assert (study.status().ended, study.status().state) == (4, "out of patience")
    assert study.confirmation.over
    study.extend(trials=1)  # which does
    assert not study.status().over
