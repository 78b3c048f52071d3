"""Numbers, trials and durations as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_trials import trial
from optuna.trial import TrialState

from search.text import figure, on_one_line, percent, show_params, verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8943, "0.8943"),
        (0.89431, "0.8943"),
        (3.2e-05, "3.2e-05"),
        (-374.33, "-374.3"),
        (12345.6, "12346"),
        (9999.6, "10000"),
        (999_999.9, "1e+06"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_is_shown_by_its_magnitude(value: float, text: str) -> None:
    assert figure(value) == text


@given(st.floats(-1e300, 1e300, allow_subnormal=False))
def test_four_digits_of_every_number_are_right(value: float) -> None:
    text = figure(value)
    assert len(text) <= 11
    assert math.isclose(float(text), value, rel_tol=5.1e-4)


def test_a_share_is_shown_in_percent() -> None:
    assert percent(0.89428) == "89.43 %"
    assert percent(1.0) == "100.00 %"


def test_a_loss_of_a_trial_is_not_shown_as_zero() -> None:
    assert verdict(trial(0, TrialState.COMPLETE, [1.0, 3.2e-05])) == "complete 3.2e-05"
    assert verdict(trial(0, TrialState.PRUNED, [-374.33])) == "pruned at step 1 with -374.3"
    assert show_params({"lr": 3.2e-05, "n": 4, "kind": "a"}) == "lr=3.2e-05 n=4 kind=a"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\x0d"),
        ("half \udc80", "half \\udc80"),
        (["\x07"], "['\\x07']"),
        (True, "True"),
        ("plain é", "plain é"),
    ],
)
def test_a_value_stays_on_its_line(value: object, text: str) -> None:
    assert on_one_line(value) == text
    assert show_params({"x": value}) == f"x={text}"
