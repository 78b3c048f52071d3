"""What is new in a list of trials, against looking at all of them anew."""

import random

import pytest
from made_trials import trial
from optuna.trial import TrialState

from search.worker.unsettled import Unsettled


@pytest.mark.slow
def test_nothing_that_changed_is_missed_and_nothing_old_is_looked_at():
    dice = random.Random(0)
    states = {}
    unsettled, settled = Unsettled(), {}
    for number in dice.sample(range(200), 200):  # some appear among older ones
        states[number] = dice.choice([TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED])
        for n, state in states.items():
            if state is TrialState.RUNNING and dice.random() < 0.1:
                states[n] = TrialState.FAIL
        trials = [trial(n, states[n], [0.5]) for n in sorted(states)]
        for one in unsettled.of(trials):
            if one.state.is_finished():
                settled[one.number] = one.state
        assert settled == {n: state for n, state in states.items() if state.is_finished()}


def test_finished_trials_before_the_first_running_one_are_given_once():
    done = [trial(n, TrialState.COMPLETE, [0.5]) for n in range(5)]
    running = trial(5, TrialState.RUNNING, [])
    unsettled = Unsettled()
    assert list(unsettled.of([*done, running])) == [*done, running]
    assert list(unsettled.of([*done, running])) == [running]
    finished = [*done, trial(5, TrialState.PRUNED, [0.5]), trial(6, TrialState.COMPLETE, [0.1])]
    assert list(unsettled.of(finished)) == finished[5:]
    assert list(unsettled.of(finished)) == []
