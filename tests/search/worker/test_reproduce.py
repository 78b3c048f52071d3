"""Running a trial again: what is compared, and what is said when it cannot be done."""

import math

import numpy as np
import pytest

import search
from search.cli.tables import EpochPrinter, print_verdict
from search.errors import SearchError
from search.worker.reproduce import reproduce


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("error", "identical: 2 steps and the last value 0.5"),
        ("nan", "identical: 2 steps and the last value nan"),
        ("ends", "identical: 2 steps and the value 0.5"),
    ],
)
def test_a_trial_without_a_value_or_with_infinite_figures_is_reproduced(
    make_study, capsys, how, said
):
    space = f'how = {{ choice = ["{how}"] }}\nx = {{ choice = [0.5] }}'
    study = make_study("toy:Unreportable", trials=1, space=space)
    search.work(study)
    print_verdict(reproduce(study, 0, EpochPrinter()))
    printed = capsys.readouterr().out
    assert said in printed
    assert "->" not in printed


def test_a_trial_that_failed_is_compared_by_its_steps(make_study, monkeypatch, capsys):
    space = 'how = { choice = ["error"] }\nx = { choice = [0.5] }'
    study = make_study("toy:Unreportable", trials=1, space=space)
    search.work(study)

    def stops_early(self, run):
        run.report(1, 0.25, loss=math.inf, ratio=math.nan, double=2)
        return 0.25

    monkeypatch.setattr(type(study.problem), "run", stops_early)
    print_verdict(reproduce(study, 0))
    assert "different from step 1 on: stored last value 0.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("tried to allocate 1 TB"), "the memory here is too small .* 1 TB"),
        (KeyError("x"), "the problem failed when the trial was run again: KeyError: 'x'"),
        (SystemExit(0), "the problem failed when the trial was run again: SystemExit: 0"),
    ],
)
def test_what_a_reproduction_raises_is_one_line(make_study, monkeypatch, error, message):
    study = make_study(trials=1)
    search.work(study)

    def fail(self, trial):
        raise error

    monkeypatch.setattr(type(study.problem), "run", fail)
    with pytest.raises(SearchError, match=message) as caught:
        reproduce(study, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_trial_of_another_program_cannot_be_run_again(make_study):
    study = make_study(trials=1)
    study.optuna.optimize(lambda trial: trial.report(0.5, 1) or 0.5, n_trials=1)
    with pytest.raises(SearchError, match="trial 0 .* was made by another program"):
        reproduce(study, 0)


def test_numbers_of_numpy_are_compared_as_those_of_python(make_study, monkeypatch):
    def reports(self, run):
        for step in np.arange(1, 3):
            run.report(step, np.float32(0.1) * step, double=np.float32(0.2), steps=np.int64(step))
        return np.float32(0.1)

    study = make_study(trials=1)
    monkeypatch.setattr(type(study.problem), "run", reports)
    search.work(study)
    replay = reproduce(study, 0)
    assert replay.identical
    numbers = [epoch.step for epoch in replay.epochs]
    numbers += [new for epoch in replay.epochs for _, new in epoch.figures.values()]
    assert {type(number) for number in numbers} == {int, float}


@pytest.mark.parametrize("value", [math.nan, 0.5])
def test_a_value_that_is_not_finite_ends_a_trial_as_diverged(make_study, monkeypatch, value):
    """The trial then has the metric at its last step; one that completed before is different."""

    def reports(self, run):
        run.report(1, 0.5)
        run.report(1, 0.25)  # passed over
        return value

    study = make_study(trials=1)
    monkeypatch.setattr(type(study.problem), "run", reports)
    search.work(study)
    assert reproduce(study, 0).identical
    value = math.nan
    assert reproduce(study, 0).identical is (study.trials[0].state.name == "PRUNED")
