"""Trials made by hand, and what a Matplotlib figure of them holds."""

from datetime import UTC, datetime, timedelta

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search.ledger.records import Attempt

START = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - as Optuna's times


def trial(number, state, values, *, lineage=None, minutes=(0, 1), params=None, **attrs):
    """A trial that reported these values, each after ten seconds of training."""
    curves = {
        "step": list(range(1, len(values) + 1)),
        "seconds": [10.0] * len(values),
        "train_accuracy": [value + 0.05 for value in values],
        "val_accuracy": values,
    }
    params = params or {"rate": 0.1 * (number + 1), "kind": "ab"[number % 2]}
    distributions = {
        "rate": FloatDistribution(0.01, 10, log=True),
        "kind": CategoricalDistribution(["a", "b"]),
    }
    ended = state.is_finished()
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=values[-1] if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        datetime_start=START + timedelta(minutes=minutes[0]),
        datetime_complete=START + timedelta(minutes=minutes[1]) if ended else None,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={"lineage": number if lineage is None else lineage, "curves": curves,
                    "worker": "w", **attrs},
        system_attrs={},
        intermediate_values=dict(enumerate(values, start=1)),
    )  # fmt: skip


def attempt(number, how, *, lineage=None, attempt=1, minutes=(0, 1), worker="w"):
    """An attempt at the trial `number`; it runs where `how` is None."""
    start = START.replace(tzinfo=UTC)
    return Attempt(
        lineage=number if lineage is None else lineage,
        attempt=attempt,
        trial=number,
        worker=worker,
        began=start + timedelta(minutes=minutes[0]),
        ended=None if how is None else start + timedelta(minutes=minutes[1]),
        how=how,
    )


def lines(axes):
    """The labelled lines of a panel."""
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
