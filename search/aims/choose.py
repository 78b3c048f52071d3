"""Chooses a trial among those that are complete: the best, or the preferred one of a front."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.errors import NoResult, SearchError, nearest
from search.outcome import best_of, front_of
from search.spec import StudySpec
from search.spec.aims import Constraint
from search.text import figure

__all__ = ["best", "front", "metrics_of", "preferred"]

_BOUND = re.compile(r"\s*(?P<name>[^<>=\s]+)\s*(?P<sign><=|>=)\s*(?P<number>\S+)\s*")


def metrics_of(spec: StudySpec, trial: FrozenTrial) -> Mapping[str, float | None]:
    """The metrics of a trial by name: those that are aimed at first, then what else is recorded."""
    aims = dict(zip(spec.metrics, trial.values or (), strict=False))
    return {**aims, **trial.user_attrs.get(attributes.METRICS, {})}


def best(spec: StudySpec, trials: Sequence[FrozenTrial], remedy: Callable[[], str]) -> FrozenTrial:
    """The feasible COMPLETE trial with the best value.

    Args:
        remedy: called where there is none: what to do for another trial to choose from.

    Raises:
        NoResult: no trial is COMPLETE, or none of them keeps the constraints.
        SearchError: the study has two metrics.
    """
    if len(spec.aims) > 1:
        raise SearchError(
            f"study {spec.name!r} has two metrics, so no one trial is its best; `best {spec.name}` "
            "shows the trials to choose from: name one with --trial"
        )
    found = best_of(trials, spec.direction)
    if found is None:
        raise _no_result(spec, trials, remedy)
    return found


def front(
    spec: StudySpec, trials: Sequence[FrozenTrial], remedy: Callable[[], str]
) -> list[FrozenTrial]:
    """The trials that no other one betters; with one metric the best trial.

    Raises:
        NoResult: no trial is COMPLETE, or none of them keeps the constraints.
    """
    if len(spec.aims) == 1:
        return [best(spec, trials, remedy)]
    found = front_of(trials, spec.directions)
    if not found:
        raise _no_result(spec, trials, remedy)
    return found


def preferred(
    spec: StudySpec, trials: Sequence[FrozenTrial], text: str, remedy: Callable[[], str]
) -> FrozenTrial:
    """The trial of the Pareto front that keeps a bound and is best by the other metric.

    Args:
        text: the bound on one of the metrics, such as "latency_ms<=0.2".

    Raises:
        SearchError: it is no bound on a metric of a study with two, or no trial keeps it.
        NoResult: no trial is COMPLETE, or none of them keeps the constraints.
    """
    parts = _BOUND.fullmatch(text)
    try:
        number = float(parts["number"]) if parts else None
    except ValueError:
        number = None
    if parts is None or number is None or math.isnan(number):
        raise SearchError(f'need METRIC<=NUMBER or METRIC>=NUMBER, such as "{spec.metric}>=0.9", '
                          f"got {text!r}")  # fmt: skip
    if len(spec.aims) == 1:
        raise SearchError(
            f"study {spec.name!r} has one metric, so its best trial is chosen, got a preference "
            f"{text!r}; leave it out"
        )
    name = parts["name"]
    if name not in spec.metrics:
        near = nearest(name, spec.metrics) or " and ".join(spec.metrics)
        raise SearchError(f"study {spec.name!r} has no metric {name!r}; it has {near}")
    low, high = (number, None) if parts["sign"] == ">=" else (None, number)
    bound = Constraint(name=name, low=low, high=high)
    found = front(spec, trials, remedy)
    at = spec.metrics.index(name)
    keeping = [trial for trial in found if bound.excess(trial.values[at]) <= 0]
    if not keeping:
        nearest_one = min(found, key=lambda trial: bound.excess(trial.values[at]))
        raise SearchError(
            f"no trial of the front of study {spec.name!r} keeps {bound}; trial "
            f"{nearest_one.number} comes nearest with {figure(nearest_one.values[at])}"
        )
    # Along a front one metric gets better as the other gets worse.
    return keeping[0] if at == 1 else keeping[-1]


def _no_result(
    spec: StudySpec, trials: Sequence[FrozenTrial], remedy: Callable[[], str]
) -> NoResult:
    """Why there is no trial to choose."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not complete:
        return NoResult(
            f"study {spec.name!r} has no complete trial to choose from; {remedy()}; "
            f"`trials {spec.name}` shows how its trials ended"
        )
    closest = min(complete, key=lambda t: sum(max(0.0, x) for x in t.constraints.values()))
    metrics = metrics_of(spec, closest)
    got = ", ".join(
        f"{each.name} = {figure(float(metrics[each.name] or 0.0))}"
        for each in spec.constraints
        if closest.constraints.get(each.name, 0.0) > 0
    )
    return NoResult(
        f"no complete trial of study {spec.name!r} keeps its constraints "
        f"({', '.join(map(str, spec.constraints))}); trial {closest.number} comes nearest with "
        f"{got}; {remedy()}"
    )
