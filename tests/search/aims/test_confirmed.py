"""The winner of a confirmation and its figures, against numpy and scipy."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from search.aims.confirmed import Candidate, Confirmation, sentences

finite = st.floats(-1e3, 1e3, allow_nan=False)


def confirmation(values, searched=None, direction="maximize", ended=None):
    count = sum(map(len, values))
    searched = searched or range(len(values))
    return Confirmation(
        study="s-confirm",
        metric="accuracy",
        direction=direction,
        reshuffled=True,
        candidates=tuple(
            Candidate(trial=10 + n, searched=float(value), values=tuple(of))
            for n, (of, value) in enumerate(zip(values, searched, strict=True))
        ),
        trials=count,
        ended=count if ended is None else ended,
    )


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(finite, min_size=n, max_size=n), min_size=2, max_size=5)
    ),
    st.sampled_from(["maximize", "minimize"]),
)
def test_winner_rival_and_interval_are_those_of_scipy(values, direction):
    found = confirmation(values, direction=direction)
    sign = 1 if direction == "maximize" else -1
    means = [sign * math.fsum(of) / len(of) for of in values]
    ranked = sorted(range(len(values)), key=lambda n: -means[n])
    rival = ranked[1] if ranked[0] == 0 else 0
    assert found.winner.trial == 10 + ranked[0]
    assert found.rival.trial == 10 + rival
    gains = sign * (np.array(values[ranked[0]]) - np.array(values[rival]))
    reach = scipy.stats.t.ppf(0.975, len(gains) - 1) * scipy.stats.sem(gains)
    difference = found.difference
    assert difference.mean == pytest.approx(gains.mean(), abs=1e-9)
    assert difference.low == pytest.approx(gains.mean() - reach, abs=1e-6)
    assert difference.high == pytest.approx(gains.mean() + reach, abs=1e-6)
    assert difference.mean >= -1e-9


def test_before_the_end_there_is_no_winner():
    found = confirmation([[1.0, 2.0], [3.0, None]], ended=3)
    assert (found.over, found.winner, found.rival, found.difference) == (False, None, None, None)
    assert sentences(found) == ["Confirmation: 3 of 4 repeats have ended, in the study s-confirm."]


def test_a_lone_candidate_wins_without_a_rival():
    found = confirmation([[0.5, 0.7]], searched=[0.5])
    assert (found.winner.trial, found.rival, found.difference) == (10, None, None)
    assert sentences(found) == [
        "Confirmed: trial 10 with a mean accuracy of 0.6 over 2 repeats, each with a seed and a "
        "split of its own.",
        "The search did not flatter itself: its best value, of trial 10, was 0.5, and the mean of "
        "that trial's repeats is 0.6.",
    ]


def test_without_a_whole_candidate_nothing_is_confirmed():
    found = confirmation([[0.5, None], [None, 0.5]], ended=4)
    assert (found.winner, found.flattered) == (None, None)
    assert sentences(found) == [
        "Not confirmed: of no candidate are all repeats complete; see the study s-confirm."
    ]


def test_the_sentences_of_another_winner():
    found = confirmation([[0.5, 0.5], [0.6, 0.7]], searched=[0.9, 0.8])
    assert sentences(found, percent=True) == [
        "Confirmed: trial 11 with a mean accuracy of 65.00 % over 2 repeats, each with a seed and "
        "a split of its own; 15.00 percentage points better than trial 10, the best of the search "
        "(95 % paired interval -48.53 to 78.53).",
        "The search flattered itself by 40.00 percentage points: its best value, of trial 10, was "
        "90.00 %, and the mean of that trial's repeats is 50.00 %.",
    ]


def test_equal_means_go_to_the_better_value_of_the_search():
    assert confirmation([[0.5, 0.7], [0.7, 0.5]]).winner.trial == 10


def test_equal_gains_are_an_interval_of_no_width():
    difference = confirmation([[0.5, 0.75], [0.25, 0.5]]).difference
    assert (difference.low, difference.mean, difference.high) == (0.25, 0.25, 0.25)
