"""Running a trial again: what is compared, and what is said when it cannot be done."""

import math

import pytest

import search
from search.cli.tables import EpochPrinter, print_verdict
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
