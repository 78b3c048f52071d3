"""Studies and trials as JSON for programs, printed by `--json`.

A value that is no finite number is null. Times are in seconds.

`status --json STUDY` prints one object, without a study a list of them:
    study, state ("finished", "2 running", ...), metric, direction, sampler (name, reason),
    budget, begun, ended, complete, pruned, failed, reasons (reason -> number of trials),
    steps and most_steps (reported and at most; null without such a budget), elapsed_seconds,
    remaining_seconds (null if unknown), halted (the error, or null), paused_since (null: it is not
    paused as a whole), ended_by (null, or the stop rule that ended it: rule, trial, text, at),
    amendments (a list of: number, at, text, replaced, hash, trials (in all since then), given (the
    parameters of the trial that it adds, or null)),
    metrics (name -> direction of each metric aimed at; `metric` is the first),
    best (null, or: trial, name, value, metrics, params),
    front (with two metrics, the trials that no other betters in both: a list of the same; best is
    null then),
    running (a list of: worker, trial, lineage, attempt, step, value, since_seconds,
    heartbeat_seconds, params),
    paused (a list, the most promising first, of: trial, name, lineage, step, value, expected and
    deviation (of the value at its last step; null if unknown), params),
    engine (of one study; null without workers on Slurm, or: name ("slurm"), running, queued,
    jobs (their ids), logs (a folder, or null), error (why Slurm does not answer, or null)),
    confirmation (of one study; null where none has begun, or: study (that holds the repeats),
    trials and ended (repeats), splits ("reshuffled" or "same"), winner (a trial; null before the
    end), mean (of its repeats), rival (what it is compared with), difference (mean, low, high; of
    the 95 % paired interval), flattered (the best value of the search less the mean of that
    trial's repeats), candidates (a list, the best of the search first, of: trial, searched (its
    value there), values (of each repeat), mean); above 0 is better).
`trials --json` prints a list of objects with the columns of `trials --csv`; `params` is an object.
`best --json` prints one object: study, trial, name, METRIC (the value under the metric's name),
    metrics (name -> value: what is aimed at and what constraints need), params, confirmation (as
    above; the best trial is its winner). With two metrics:
    study, front (a list of: trial, name, metrics, params; the best by the first metric first).
`reproduce --json` prints one object: study, trial, identical, value (a pair: stored, new),
    steps (a list of: step, identical, figures (name -> pair)), environment (key -> pair, where
    they differ). The exit code stays 0 or 3.
"""

import argparse
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.aims import choose
from search.logs import printed_apart
from search.outcome import value_of
from search.study import Study
from search.study.rows import records, worked_seconds
from search.study.status import Busy, Paused, Status
from search.text import finite
from search.worker.reproduce import Replay

__all__ = [
    "best_record",
    "confirmed_record",
    "json_alone",
    "print_json",
    "replay_record",
    "status_record",
    "trial_records",
]


def json_alone(args: argparse.Namespace) -> AbstractContextManager[object]:
    """Send what a problem's code prints to the standard error, if `--json` was given."""
    return printed_apart() if args.json else nullcontext()


def print_json(value: Any) -> None:
    """Print a value as JSON that every parser takes: NaN and infinities become null."""
    print(json.dumps(finite(value), indent=2, allow_nan=False))


def status_record(status: Status) -> dict[str, Any]:
    """How a study stands; see the head of this module."""
    return {
        "study": status.name,
        "state": status.state,
        "metric": status.metric,
        "direction": status.direction,
        "metrics": dict(status.metrics),
        "sampler": {"name": status.sampler, "reason": status.sampler_reason},
        "budget": status.budget,
        "begun": status.begun,
        "ended": status.ended,
        "complete": status.complete,
        "pruned": status.pruned,
        "failed": status.failed,
        "reasons": dict(status.reasons),
        "steps": status.steps,
        "most_steps": status.most_steps,
        "elapsed_seconds": status.elapsed_seconds,
        "remaining_seconds": status.remaining_seconds if status.running else None,
        "halted": status.halted,
        "paused_since": None if status.held_since is None else status.held_since.isoformat(),
        "ended_by": None if status.ended_by is None else status.ended_by.to_json(),
        "amendments": [one.to_json() for one in status.amendments],
        "best": None if status.best is None else _trial(status.best, status.metrics),
        "front": [_trial(trial, status.metrics) for trial in status.front],
        "running": [_busy(busy) for busy in status.running],
        "paused": [_paused(one) for one in status.paused],
    }


def trial_records(study: Study) -> list[dict[str, Any]]:
    """Every trial of a study; see the head of this module."""
    trials = study.trials
    worked = worked_seconds(study.ledger.attempts())
    rows = records(trials, lambda _: {}, worked, resting=study.resting)
    return [{**row, "params": study.params(trial)} for trial, row in zip(trials, rows, strict=True)]


def best_record(study: Study) -> dict[str, Any]:
    """The best trial; see the head of this module.

    Raises:
        NoResult: no trial is complete.
    """
    if len(study.spec.aims) > 1:
        front = [
            {
                "trial": trial.number,
                "name": trial.user_attrs.get(attributes.NAME),
                "metrics": choose.metrics_of(study.spec, trial),
                "params": study.params(trial),
            }
            for trial in study.pareto
        ]
        return {"study": study.name, "front": front}
    best = study.best
    return {
        "study": study.name,
        "trial": best.number,
        "name": best.user_attrs.get(attributes.NAME),
        study.spec.metric: value_of(best),
        "metrics": choose.metrics_of(study.spec, best),
        "params": study.params(best),
        "confirmation": confirmed_record(study),
    }


def confirmed_record(study: Study) -> dict[str, Any] | None:
    """What came of training the best trials again; see the head of this module."""
    found = study.confirmation
    return None if found is None else found.to_json()


def replay_record(study: Study, replay: Replay) -> dict[str, Any]:
    """A reproduction; see the head of this module."""
    return {
        "study": study.name,
        "trial": replay.trial.number,
        "identical": replay.identical,
        "value": replay.value,
        "steps": [
            {"step": one.step, "identical": one.identical, "figures": dict(one.figures)}
            for one in replay.epochs
        ],
        "environment": dict(replay.environment),
    }


def _trial(trial: FrozenTrial, metrics: Iterable[str]) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "name": trial.user_attrs.get(attributes.NAME),
        "value": value_of(trial),
        "metrics": dict(zip(metrics, trial.values or (), strict=False))
        | trial.user_attrs.get(attributes.METRICS, {}),
        "params": trial.params,
    }


def _busy(busy: Busy) -> dict[str, Any]:
    return {
        "worker": busy.worker,
        "trial": busy.number,
        "lineage": busy.lineage,
        "attempt": busy.attempt,
        "step": busy.step,
        "value": busy.value,
        "since_seconds": busy.since_seconds,
        "heartbeat_seconds": busy.heartbeat_seconds,
        "params": busy.params,
    }


def _paused(one: Paused) -> dict[str, Any]:
    return {
        "trial": one.number,
        "name": one.name,
        "lineage": one.lineage,
        "step": one.step,
        "value": one.value,
        "expected": one.expected,
        "deviation": one.deviation,
        "params": one.params,
    }
