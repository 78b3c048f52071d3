"""Trials as rows of one table, for CSV files and data frames."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.ledger.records import Attempt
from search.outcome import is_feasible, value_of
from search.storage.trial_rows import utc

__all__ = ["columns", "records", "seconds", "utc", "worked_seconds"]

ParamsOf = Callable[[FrozenTrial], Mapping[str, Any]]

_BEFORE = ("number", "lineage", "amendment", "arm", "state", "reason", "name", "value",
           "steps", "seconds", "worker", "retry_of", "duplicate_of", "audit_step",
           "error")  # fmt: skip


def columns(trials: Sequence[FrozenTrial], params_of: ParamsOf) -> list[str]:
    """The names of all columns; those of parameters begin with `param_`.

    What only studies with constraints or two metrics record, stands before them: `feasible`, and
    each metric as `metric_NAME`.
    """
    metrics = sorted({name for t in trials for name in t.user_attrs.get(attributes.METRICS, {})})
    feasible = ["feasible"] if any(trial.constraints for trial in trials) else []
    params = sorted({name for trial in trials for name in params_of(trial)})
    return [
        *_BEFORE,
        *feasible,
        *(f"metric_{name}" for name in metrics),
        *(f"param_{name}" for name in params),
    ]


def records(
    trials: Sequence[FrozenTrial],
    params_of: ParamsOf,
    worked: Mapping[int, float],
    *,
    resting: Mapping[int, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """One row per trial; a parameter that the trial does not have is left out.

    Args:
        params_of: the parameters of a trial that are shown.
        worked: see `worked_seconds`.
        resting: the states of trials that nobody runs, by number; to Optuna they are running.
    """
    return [
        _record(trial, worked, resting) | _metrics(trial) | _params(params_of(trial))
        for trial in trials
    ]


def _record(
    trial: FrozenTrial, worked: Mapping[int, float], resting: Mapping[int, str]
) -> dict[str, Any]:
    attrs = trial.user_attrs
    return {
        "number": trial.number,
        "lineage": attrs.get(attributes.LINEAGE),
        "amendment": attrs.get(attributes.AMENDMENT),
        "arm": attrs.get(attributes.ARM),
        "state": resting.get(trial.number) or trial.state.name.lower(),
        "reason": attrs.get(attributes.REASON),
        "name": attrs.get(attributes.NAME),
        "value": value_of(trial),
        "steps": max(trial.intermediate_values, default=0),
        "seconds": seconds(trial, worked),
        "worker": attrs.get(attributes.WORKER),
        "retry_of": attrs.get(attributes.RETRY_OF),
        "duplicate_of": attrs.get(attributes.DUPLICATE_OF),
        "audit_step": attrs.get(attributes.AUDIT, {}).get("step"),
        "error": attrs.get(attributes.ERROR),
    }


def _metrics(trial: FrozenTrial) -> dict[str, Any]:
    feasible = {"feasible": is_feasible(trial)} if trial.constraints else {}
    recorded = trial.user_attrs.get(attributes.METRICS, {})
    return feasible | {f"metric_{name}": value for name, value in recorded.items()}


def _params(params: Mapping[str, Any]) -> dict[str, Any]:
    return {f"param_{name}": value for name, value in params.items()}


def worked_seconds(attempts: Iterable[Attempt]) -> dict[int, float]:
    """Seconds of work on each trial, by its number: the sum over its attempts that have ended.

    A trial that was released and resumed has several attempts; the pause between two is no work.
    """
    worked: defaultdict[int, float] = defaultdict(float)
    for attempt in attempts:
        if attempt.ended is not None:
            # The database's clock may have been put back meanwhile.
            worked[attempt.trial] += max(0.0, (attempt.ended - attempt.began).total_seconds())
    return dict(worked)


def seconds(trial: FrozenTrial, worked: Mapping[int, float]) -> float | None:
    """Seconds of work on a trial; None until it has ended.

    A trial without attempts, which another program added, has the time from its start to its end.
    Optuna's `duration` would subtract local times: an hour is missing, or one too many, where the
    clocks were put forward or back meanwhile.

    Args:
        worked: see `worked_seconds`.
    """
    if trial.datetime_start is None or trial.datetime_complete is None:
        return None
    elapsed = (utc(trial.datetime_complete) - utc(trial.datetime_start)).total_seconds()
    return worked.get(trial.number, max(0.0, elapsed))
