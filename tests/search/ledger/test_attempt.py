"""What a retry keeps of the trial that it follows."""

from datetime import datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.ledger.attempt import next_attempt

GIVEN = {
    attributes.NAME: "given",
    attributes.ARM: attributes.CONTROL,
    attributes.DATA: {"data": "hash"},
    attributes.LINEAGE: 3,
    attributes.PARAMS: {"x": 0.5},
}
RECORDED = {
    attributes.AUDIT: {"trial": 7, "step": 1, "value": 0.5},
    attributes.CURVES: {"step": [1], "loss": [0.5]},
    attributes.DUPLICATE_OF: 2,
    f"{attributes.FOLD}0": {"test_scores": 1.0},
    "of a later version": 1,
}
ENDING = {attributes.RETRY_OF: 4, attributes.ERROR: "E", attributes.TRACEBACK: "T"}
RUNG = f"{attributes.COMPLETED_RUNG}0"


@st.composite
def attrs(draw: st.DrawFn, reason: Reason) -> dict[str, object]:
    everything = {**GIVEN, **RECORDED, **ENDING}
    chosen = draw(st.sets(st.sampled_from(sorted(everything))))
    return {**{key: everything[key] for key in chosen}, attributes.REASON: reason.value}


def ended(user_attrs: dict[str, object]) -> FrozenTrial:
    return FrozenTrial(
        number=7,
        trial_id=70,
        state=TrialState.FAIL,
        value=None,
        datetime_start=datetime.now(),  # noqa: DTZ005 - Optuna's convention
        datetime_complete=datetime.now(),  # noqa: DTZ005
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs=user_attrs,
        system_attrs={attributes.FIXED_PARAMS: {"x": 0.5}, RUNG: 0.5},
        intermediate_values={1: 0.5},
    )


@pytest.mark.slow
@given(attrs(Reason.ERROR))
def test_of_an_error_that_was_mended_nothing_is_kept(user_attrs: dict[str, object]) -> None:
    new = next_attempt(ended(user_attrs))
    kept = {key: value for key, value in user_attrs.items() if key in GIVEN}
    assert new.user_attrs == {**kept, attributes.RETRY_OF: 7}
    assert new.intermediate_values == {}
    assert new.system_attrs == {attributes.FIXED_PARAMS: {"x": 0.5}}
    assert (new.params, new.state) == ({"x": 0.5}, TrialState.RUNNING)


@given(attrs(Reason.LOST))
def test_after_a_lost_worker_all_that_was_recorded_is_kept(user_attrs: dict[str, object]) -> None:
    new = next_attempt(ended(user_attrs))
    gone = {*ENDING, attributes.REASON}
    kept = {key: value for key, value in user_attrs.items() if key not in gone}
    assert new.user_attrs == {**kept, attributes.RETRY_OF: 7}
    assert new.intermediate_values == {1: 0.5}
    assert new.system_attrs == {attributes.FIXED_PARAMS: {"x": 0.5}, RUNG: 0.5}
