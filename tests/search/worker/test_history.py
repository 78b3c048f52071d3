"""What a worker keeps in mind of finished trials, against looking at all of them anew."""

import random

import pytest
from made_trials import trial
from optuna.trial import TrialState

from search.worker.history import History

STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]


def best_anew(trials, direction, count):
    sign = -1 if direction == "maximize" else 1
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda t: (sign * t.value, t.number))
    return [t.user_attrs["lineage"] for t in ranked[:count]]


def twin_anew(trials, params, number, lineage):
    same = (t for t in trials if t.params == params and t.number < number)
    return next((t.number for t in same if t.user_attrs["lineage"] != lineage), None)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_looking_at_all_of_them_anew(direction, seed):
    dice = random.Random(seed)
    history, trials = History([direction], 3), []
    for number in range(60):
        value = dice.choice([0.1, 0.2, 0.3, 0.4, 0.5])
        lineage = dice.choice([number, max(0, number - 1)])
        params = {"rate": dice.choice([0.1, 0.2, 0.3])}
        trials.append(trial(number, dice.choice(STATES), [value], lineage=lineage, params=params))
        running = dice.randrange(len(trials))  # one that ends later than it began
        if trials[running].state is TrialState.RUNNING:
            trials[running] = trial(
                running, TrialState.COMPLETE, [value], params=trials[running].params,
                lineage=trials[running].user_attrs["lineage"],
            )  # fmt: skip
        found = history.twin(trials, params, number, lineage)
        assert found == twin_anew(trials, params, number, lineage)
        assert history.best == best_anew(trials, direction, 3)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.RUNNING])
def test_true_is_not_one(state):
    trials = [trial(0, state, [0.5], lineage=0, params={"rate": 1})]
    history = History(["maximize"], 1)
    assert history.twin(trials, {"rate": True}, 1, 1) is None
    assert history.twin(trials, {"rate": 1.0}, 1, 1) == 0
