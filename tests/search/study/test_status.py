"""The tally of a study against a plain count over all of its trials."""

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given
from made_trials import trial
from optuna.trial import TrialState

from search.outcome import best_of
from search.study.status import Tally

STATES = [TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(STATES), st.sampled_from([0.25, 0.5, 0.75])),
        max_size=40,
    ),
    st.sampled_from(["maximize", "minimize"]),
)
def test_a_tally_is_the_sum_however_often_it_is_asked(changes, direction):
    trials, tally = [], Tally(direction)
    for number, state, value in changes:
        if number < len(trials):
            if not trials[number].state.is_finished():
                trials[number] = made(number, state, value)
        else:
            trials.append(made(len(trials), state, value))
        tally.add(trials)
        ended = [t for t in trials if t.state.is_finished()]
        assert sorted(t.number for t in tally.finished) == [t.number for t in ended]
        assert tally.states == Counter(t.state for t in ended)
        assert tally.reasons["lost"] == sum(t.state is TrialState.FAIL for t in ended)
        assert tally.best is best_of(trials, direction)
    del trials[:1]
    tally.add(trials)
    assert {t.number for t in tally.finished} == {t.number for t in trials if t.state.is_finished()}


def made(number, state, value):
    return trial(number, state, [value], **({"reason": "lost"} if state is STATES[3] else {}))


@pytest.mark.parametrize(
    ("budget", "uses", "remedy"),
    [
        ("hours = 10\nsteps = 2", {"steps": 2}, "add steps with `extend toy --steps +100`"),
        ("hours = 1\nsteps = 2", {"steps": 2, "elapsed_seconds": 3600.0},
         "add hours and steps with `extend toy --hours +1 --steps +100`"),
        ("hours = 1", {"ended": 6}, "all its trials have ended: add some with `extend toy"),
        ("", {"ended": 6, "pruned": 5}, "repeat the failed ones with `run toy --retry-failed`"),
        ("", {"halted": "ValueError"}, "repeat the failed ones with `run toy --retry-failed`"),
        ("", {"ended": 6, "pruned": 5, "finished": [trial(0, STATES[3], [])]}, "add some with"),
        ("hours = 1", {}, "let it run on"),
    ],
)  # fmt: skip
def test_what_to_do_for_a_trial_to_choose_from(make_study, budget, uses, remedy):
    status = replace(
        make_study(budget=budget).status(), **({"pruned": uses.get("ended", 0)} | uses)
    )
    status = replace(status, begun=status.ended)
    assert remedy in status.remedy
