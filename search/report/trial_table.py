"""The table of a study's trials."""

from collections.abc import Collection, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from search.outcome import is_feasible
from search.report import facts
from search.report.axes import Metric
from search.text import broken, clock, ending, show_params

__all__ = ["TRIAL_HEAD", "trial_rows"]

TRIAL_HEAD = ("trial", "value", "ended as", "steps", "training", "parameters")


def trial_rows(
    trials: Sequence[FrozenTrial],
    waiting: Collection[int],
    metric: Metric,
    worked: Mapping[int, float] = {},
) -> list[tuple[str, ...]]:
    """A row for each lineage that ended with a value: the best on top.

    Those that break a constraint stand below the other complete ones, and pruned ones last.

    Args:
        waiting: see `facts.last_attempts`.
        worked: see `search.study.rows.worked_seconds`.
    """
    sign = -1.0 if metric.direction == "maximize" else 1.0
    valued = [t for t in facts.last_attempts(trials, waiting) if t.value is not None]
    valued.sort(
        key=lambda t: (
            t.state is not TrialState.COMPLETE,
            not is_feasible(t),
            sign * float(t.value or 0.0),
            t.number,
        )
    )
    return [
        (
            str(trial.number),
            metric.show(float(trial.value or 0.0)),
            _ended(trial),
            str(len(trial.intermediate_values)),
            clock(facts.training_seconds(trial, worked)),
            show_params(trial.params),
        )
        for trial in valued
    ]


def _ended(trial: FrozenTrial) -> str:
    word = ending(trial)
    if trial.state is TrialState.COMPLETE:
        word += broken(trial)
    return f"{word} (control)" if facts.is_control(trial) else word
