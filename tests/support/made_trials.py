"""Trials made by hand, and what a Matplotlib figure of them holds."""

from datetime import UTC, datetime, timedelta

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search.ledger.records import Attempt
from search.report.facts import Point

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


TRIALS = [
    trial(0, TrialState.COMPLETE, [0.5, 0.6, 0.7, 0.8], minutes=(0, 4)),
    trial(1, TrialState.PRUNED, [0.4], minutes=(0, 1)),
    trial(2, TrialState.FAIL, [0.5, 0.6], lineage=2, minutes=(1, 3), reason="lost"),
    trial(3, TrialState.COMPLETE, [0.5, 0.6, 0.7, 0.9], lineage=2, minutes=(3, 6), retry_of=2),
    trial(4, TrialState.PRUNED, [0.1, 0.1], lineage=3, minutes=(6, 7), reason="diverged"),
    trial(5, TrialState.COMPLETE, [0.3, 0.4, 0.5, 0.75], lineage=4, minutes=(7, 9), arm="control"),
    trial(6, TrialState.COMPLETE, [0.2, 0.5, 0.8, 0.95], lineage=5, minutes=(9, 11),
          audit={"trial": 6, "step": 2, "value": 0.5}),
]  # fmt: skip

ATTEMPTS = [
    attempt(0, "complete", minutes=(0, 4)),
    attempt(1, "pruned", minutes=(0, 1)),
    attempt(2, "lost", minutes=(1, 3)),
    attempt(3, "complete", lineage=2, attempt=2, minutes=(3, 6)),
    attempt(4, "diverged", lineage=3, minutes=(6, 7)),
    attempt(5, "complete", lineage=4, minutes=(7, 9)),
    attempt(6, "complete", lineage=5, minutes=(9, 11)),
]


def points(values, *, control, seconds=10.0):
    return [
        Point(number=n, hours=float(n), value=value, complete=True, control=control,
              training_seconds=seconds)
        for n, value in enumerate(values)
    ]  # fmt: skip
