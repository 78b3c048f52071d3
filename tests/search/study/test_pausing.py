"""A study's lineages as the model of learning curves sees them."""

import pytest
from optuna.trial import FrozenTrial, TrialState
from toy import toy_spec

from search import attributes
from search.attributes import Reason
from search.ledger import Row
from search.spec import parse_spec
from search.study.pausing import curves, steps_under_way


def row(lineage, **options):
    state = {"done": False, "paused": False, "pause_at": None, "worker": None, **options}
    return Row(lineage=lineage, attempt=1, lost_attempts=0, trial=lineage, running_seconds=None,
               heartbeat_age_seconds=None, **state)  # fmt: skip


def trial(number, reports=2, state=TrialState.RUNNING, **attrs):
    return FrozenTrial(
        number=number, trial_id=number, state=state, value=None, params={"x": 0.5},
        distributions={}, user_attrs={attributes.LAST_STEP: 12, **attrs}, system_attrs={},
        intermediate_values={step: 0.5 for step in range(1, reports + 1)}, datetime_start=None,
        datetime_complete=None,
    )  # fmt: skip


def spec_of(budget):
    return parse_spec(toy_spec(budget=budget), where="here")


@pytest.mark.parametrize(
    ("reason", "state"),
    [(Reason.BY_HAND, "complete"), (Reason.OUT_OF_BUDGET, "complete"), (Reason.DIVERGED, "ended"),
     (Reason.TIMEOUT, "ended")],
)  # fmt: skip
def test_what_somebody_stopped_is_no_worse_for_it(reason, state):
    ended = trial(0, state=TrialState.PRUNED, reason=reason.value)
    (curve,) = curves(spec_of("steps = 9"), [row(0, done=True)], {0: ended})
    assert (curve.state, curve.until) == (state, None)


def test_without_hours_every_step_costs_the_same():
    """An amendment may have removed them since the steps were timed."""
    timed = {0: trial(0, step_seconds=[2.0, 4.0])}
    rows = [row(0, paused=True)]
    (curve,) = curves(spec_of("hours = 1\nsteps = 9"), rows, timed)
    assert curve.seconds_per_step == 3.0
    (curve,) = curves(spec_of("steps = 9"), rows, timed)
    assert curve.seconds_per_step is None


def test_the_steps_under_way_are_those_to_the_next_pause():
    trials = {n: trial(n) for n in range(5)}
    del trials[4].user_attrs[attributes.LAST_STEP]  # of the control
    rows = [
        row(0, worker="w", pause_at=4), row(1), row(2, paused=True), row(3, done=True),
        row(4, worker="v"),
    ]  # fmt: skip
    assert steps_under_way(rows, trials, lambda trial: 7) == 2 + 10 + 5
    assert steps_under_way(rows, trials, lambda trial: 7, asks=0) == 10 + 5
