"""What a report says of steps, against values counted by hand."""

import pytest
from made_trials import lines, points, trial
from optuna.trial import TrialState
from scipy.stats import kendalltau, spearmanr

from search.report.axes import Metric
from search.report.draw_steps import draw_agreement, draw_expectations, draw_pauses, draw_regret
from search.report.steps import agreement, expectations, regrets, stretches

ACCURACY = Metric(name="val_accuracy", direction="maximize", percent=("val_accuracy",))


def decision(number, until, *, random=False, horizon=None, mean=0.5, deviation=0.1):
    return {"number": number, "until": until, "threshold": 0.6, "horizon": horizon or until,
            "mean": mean, "deviation": deviation, "random": random}  # fmt: skip


CHOSEN = trial(
    0, TrialState.COMPLETE, [0.5, 0.6, 0.7, 0.8],
    decisions=[decision(0, 1, random=True), decision(2, 2, horizon=4, mean=0.7)],
)  # fmt: skip
LEFT = trial(1, TrialState.PRUNED, [0.4], decisions=[decision(1, 1)])
CUT = trial(2, TrialState.PRUNED, [0.3], decisions=[decision(3, 4)])  # the budget was used up
NEVER = trial(3, TrialState.FAIL, [], decisions=[decision(4, 1)])
CONTROL = trial(4, TrialState.COMPLETE, [0.2, 0.3, 0.4, 0.5], arm="control")
DECIDED = [CHOSEN, LEFT, CUT, NEVER, CONTROL]


def test_each_stretch_of_steps_stands_where_it_was_decided():
    found = [(one.trial, one.first, one.last, one.at, one.random) for one in stretches(DECIDED)]
    assert found == [
        (0, 1, 1, 0, True),
        (1, 1, 1, 1, False),
        (0, 2, 4, 2, False),  # it ran on to its end, and no later decision was needed
        (2, 1, 1, 5, False),
    ]
    assert sum(one.last - one.first + 1 for one in stretches(DECIDED)) == 6  # all that were run


def test_only_what_the_model_expected_is_an_expectation():
    (only,) = expectations(CHOSEN)
    assert (only.step, only.horizon, only.mean, only.deviation) == (1, 4, 0.7, 0.1)
    assert expectations(CONTROL) == []


def test_early_steps_agree_with_the_last_as_their_ranks_do():
    curves = [[0.1, 0.5], [0.3, 0.4], [0.2, 0.6], [0.5, 0.8], [0.4, 0.9]]
    trials = [trial(n, TrialState.COMPLETE, curve) for n, curve in enumerate(curves)]
    pruned = trial(5, TrialState.PRUNED, [0.9])
    found, count = agreement([*trials, pruned])
    assert count == 5
    first, last = zip(*curves, strict=True)
    assert found[1] == pytest.approx(spearmanr(first, last).statistic)
    assert found[1] != pytest.approx(kendalltau(first, last).statistic)
    assert found[2] == pytest.approx(1.0)
    assert agreement(trials[:4]) == ({}, 4)  # too few
    flat = [trial(n, TrialState.COMPLETE, [0.5, n / 10]) for n in range(5)]
    assert list(agreement(flat)[0]) == [2]  # equal values have no order


@pytest.mark.parametrize("sign", [1, -1])
def test_regret_is_the_distance_to_the_best_of_both_arms(sign):
    search = points([sign * 0.5, sign * 0.9, sign * 0.7], control=False)
    control = points([sign * 0.6, sign * 0.8], control=True, seconds=30.0)
    found = regrets([*search, *control], "maximize" if sign > 0 else "minimize")
    assert list(found[False].seconds) == [10, 20, 30]
    assert list(found[False].values) == pytest.approx([0.4, 0, 0])
    assert list(found[True].seconds) == [30, 60, 60]
    assert list(found[True].values) == pytest.approx([0.3, 0.1, 0.1])
    assert list(regrets(search, "maximize")) == [False]


def test_the_figures_show_what_was_counted():
    drawn = draw_pauses(stretches(DECIDED), DECIDED, 0, ACCURACY, "pauses")
    left, right = drawn.axes
    assert {bars.get_label(): len(bars) for bars in left.containers} == {
        "begins": 2,
        "the best trial": 2,
    }
    assert sum(bar.get_width() for bars in left.containers for bar in bars) == 6
    assert max(max(line.get_ydata()) for line in right.lines) == 80
    drawn = draw_expectations(CHOSEN, expectations(CHOSEN), ACCURACY, "expected")
    assert list(lines(drawn.axes[0])["trial 0"].get_ydata()) == [50, 60, 70, 80]
    drawn = draw_regret(
        regrets([*points([0.5], control=False), *points([0.4], control=True)], "maximize"),
        ACCURACY,
        "regret",
    )
    assert list(lines(drawn.axes[0])["control (random)"].get_ydata()) == pytest.approx([10, 10])
    drawn = draw_agreement({1: 0.5, 2: 1.0}, "agreement")
    assert list(drawn.axes[0].lines[0].get_ydata()) == [0.5, 1.0]
