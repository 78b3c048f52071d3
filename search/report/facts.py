"""What a report says of a study, as data: read from its trials, drawn and written elsewhere."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.ledger.records import Attempt
from search.outcome import is_feasible
from search.report.curves import curve
from search.storage.sampler_view import as_searched
from search.study import rows
from search.text import ending

__all__ = [
    "AuditedTrial",
    "Compute",
    "Endings",
    "Point",
    "Span",
    "audited",
    "compute",
    "endings",
    "history",
    "importances",
    "is_control",
    "last_attempts",
    "of_first_metric",
    "running_best",
    "spans",
    "training_seconds",
]

IMPORTANCE_TRIALS = 6  # complete ones, below which shares would say nothing
PlannedSteps = Callable[[Mapping[str, Any]], int | None]


def is_control(trial: FrozenTrial) -> bool:
    """Whether it was drawn at random and unknown to sampler and pruner."""
    return bool(trial.user_attrs.get(attributes.ARM) == attributes.CONTROL)


def last_attempts(
    trials: Sequence[FrozenTrial], waiting: Collection[int] = ()
) -> list[FrozenTrial]:
    """The last attempt of each lineage that has ended, by number; a stopped one goes on.

    Args:
        waiting: lineages that are not done, so that another attempt follows a failed one.
    """
    latest = {trial.user_attrs.get(attributes.LINEAGE, ~trial.number): trial for trial in trials}
    return sorted(
        (
            trial
            for trial in latest.values()
            if trial.state.is_finished()
            and trial.user_attrs.get(attributes.REASON) != Reason.STOPPED.value
            and not (
                trial.state is TrialState.FAIL
                and trial.user_attrs.get(attributes.LINEAGE) in waiting
            )
        ),
        key=lambda trial: trial.number,
    )


@dataclass(frozen=True, kw_only=True)
class Endings:
    """How lineages ended, and how many attempts at them were interrupted."""

    by_word: Mapping[str, int]  # complete, pruned, diverged, timeout, out-of-memory, error, lost
    lost_attempts: int  # whose worker died
    stopped_attempts: int  # whose worker was asked to stop
    control: int
    audited: int

    @property
    def total(self) -> int:
        return sum(self.by_word.values())


def endings(
    trials: Sequence[FrozenTrial],
    attempts: Sequence[Attempt],
    waiting: Collection[int] = (),
) -> Endings:
    """Count how the lineages of a study ended, by reason where there is one."""
    ended = last_attempts(trials, waiting)
    words = Counter(map(ending, ended))
    reasons = Counter(attempt.how for attempt in attempts)
    return Endings(
        by_word=dict(words),
        lost_attempts=reasons[Reason.LOST.value],
        stopped_attempts=reasons[Reason.STOPPED.value],
        control=sum(map(is_control, ended)),
        audited=sum(attributes.AUDIT in trial.user_attrs for trial in ended),
    )


def training_seconds(trial: FrozenTrial, worked: Mapping[int, float] = {}) -> float:
    """Seconds of training and validation of a lineage up to a trial's last step.

    The sum of the curve `seconds`, or of `fit_seconds` and `score_seconds`, where the problem
    reports them, which leaves out what waiting and dead workers cost; otherwise the seconds of
    work on this trial.

    Args:
        worked: see `search.study.rows.worked_seconds`.
    """
    reported = [curve(trial, "seconds")]  # of epochs
    if not reported[0]:
        reported = [curve(trial, "fit_seconds"), curve(trial, "score_seconds")]  # of folds
    if any(reported):
        return sum(
            value
            for seconds in reported
            for step, value in seconds.items()
            if step in trial.intermediate_values
        )
    return rows.seconds(trial, worked) or 0.0


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Training that was done, and training that the pruner spared."""

    steps: int
    seconds: float
    saved_steps: int
    saved_seconds: float  # at each pruned trial's own pace
    estimated: bool  # the steps that were planned are the mean of the complete trials'

    @property
    def saved_share(self) -> float:
        """Of what would have been done without a pruner, 0 to 1."""
        whole = self.seconds + self.saved_seconds
        return self.saved_seconds / whole if whole else 0.0


def compute(
    trials: Sequence[FrozenTrial],
    params_of: Callable[[FrozenTrial], Mapping[str, Any]],
    planned_steps: PlannedSteps,
    waiting: Collection[int] = (),
    worked: Mapping[int, float] = {},
) -> Compute:
    """Add up the training of all lineages.

    Args:
        params_of: every parameter of a trial.
        planned_steps: from a trial's parameters; None where they do not determine it.
        waiting: see `last_attempts`.
        worked: see `search.study.rows.worked_seconds`.
    """
    ended = last_attempts(trials, waiting)
    complete = [len(t.intermediate_values) for t in ended if t.state is TrialState.COMPLETE]
    typical = round(sum(complete) / len(complete)) if complete else 0
    saved_steps, saved_seconds, estimated = 0, 0.0, False
    for trial in ended:
        done = len(trial.intermediate_values)
        if (
            trial.state is not TrialState.PRUNED
            or attributes.REASON in trial.user_attrs
            or not done
        ):
            continue
        planned = planned_steps(params_of(trial))
        estimated |= planned is None
        spared = max(0, (typical if planned is None else planned) - done)
        saved_steps += spared
        saved_seconds += spared * training_seconds(trial, worked) / done
    return Compute(
        steps=sum(len(trial.intermediate_values) for trial in ended),
        seconds=sum(training_seconds(trial, worked) for trial in ended),
        saved_steps=saved_steps,
        saved_seconds=saved_seconds,
        estimated=estimated,
    )


@dataclass(frozen=True, kw_only=True)
class AuditedTrial:
    """A trial that ran on though the pruner would have ended it."""

    number: int
    step: int  # at which it would have been pruned
    value: float  # then
    final: float | None  # None when it diverged or failed later


def audited(trials: Sequence[FrozenTrial], waiting: Collection[int] = ()) -> list[AuditedTrial]:
    """The audited trials that have ended, by number."""
    return [
        AuditedTrial(
            number=trial.number,
            step=trial.user_attrs[attributes.AUDIT]["step"],
            value=trial.user_attrs[attributes.AUDIT]["value"],
            final=trial.value if trial.state is TrialState.COMPLETE else None,
        )
        for trial in last_attempts(trials, waiting)
        if attributes.AUDIT in trial.user_attrs
    ]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A lineage in the history: its value, when it ended, and in which arm."""

    number: int
    hours: float  # since the study's first trial began
    value: float
    complete: bool  # and feasible; else pruned, with the last value it reported, or infeasible
    control: bool
    training_seconds: float
    infeasible: bool = False  # ran to its end, and breaks a constraint


def history(
    trials: Sequence[FrozenTrial],
    worked: Mapping[int, float] = {},
    *,
    as_pruned: bool = False,
) -> list[Point]:
    """Every lineage that ended with a value, in the order in which they ended.

    Args:
        worked: see `search.study.rows.worked_seconds`.
        as_pruned: show audited trials as the pruned ones that they would have been.
    """
    start = min((rows.utc(t.datetime_start) for t in trials if t.datetime_start), default=None)
    found = []
    for trial in last_attempts(trials):
        seen = trial
        if as_pruned and not is_control(trial):
            seen = _as_pruned(trial)
        if seen.value is None or start is None or seen.datetime_complete is None:
            continue
        ended = seen.state is TrialState.COMPLETE
        found.append(
            Point(
                number=trial.number,
                hours=(rows.utc(seen.datetime_complete) - start).total_seconds() / 3600,
                value=seen.value,
                complete=ended and is_feasible(seen),
                control=is_control(trial),
                training_seconds=training_seconds(seen, worked),
                infeasible=ended and not is_feasible(seen),
            )
        )
    return sorted(found, key=lambda point: (point.hours, point.number))


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    """A trial as without the audit; one that goes on with an audited one is that, too."""
    mark = trial.user_attrs.get(attributes.AUDIT)
    if mark is not None:
        trial = copy.copy(trial)
        trial.user_attrs = {**trial.user_attrs, attributes.AUDIT: {**mark, "trial": trial.number}}
    return as_searched(trial) or trial


def of_first_metric(trial: FrozenTrial) -> FrozenTrial:
    """A trial of a study with two metrics, with the value of the first one alone."""
    seen = copy.copy(trial)
    seen.values = None if trial.values is None else trial.values[:1]
    return seen


def running_best(points: Sequence[Point], direction: str) -> list[tuple[Point, float]]:
    """The best value so far at each complete point, in the order given."""
    better = max if direction == "maximize" else min
    best: list[tuple[Point, float]] = []
    for point in points:
        if point.complete:
            value = better(point.value, best[-1][1]) if best else point.value
            best.append((point, value))
    return best


def importances(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """The share of the value's variation that each parameter explains (PED-ANOVA), largest first.

    Without parameters that fewer than `IMPORTANCE_TRIALS` complete trials have: of those the shares
    would say nothing. Empty when there are too few trials to tell of any.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(complete) < IMPORTANCE_TRIALS or len({trial.value for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a parameter occurs in few trials
        try:
            first = (lambda trial: trial.values[0]) if len(study.directions) > 1 else None
            shares = optuna.importance.get_param_importances(study, target=first)
        except (ValueError, RuntimeError):  # no parameter varies
            return {}
    having = Counter(name for trial in complete for name in trial.params)
    return {name: share for name, share in shares.items() if having[name] >= IMPORTANCE_TRIALS}


@dataclass(frozen=True, kw_only=True)
class Span:
    """One attempt on the timeline; times are UTC."""

    number: int  # of its trial
    worker: str
    start: datetime
    end: datetime
    ending: str  # complete, pruned, lost, stopped, ...; running
    resumes: bool  # follows an earlier attempt at its lineage


def spans(attempts: Sequence[Attempt], *, now: datetime) -> list[Span]:
    """Every attempt, by its trial's number; a trial that was released has several.

    Args:
        now: the end of those that still run, in UTC.
    """
    found = [
        Span(
            number=attempt.trial,
            worker=attempt.worker or "?",
            start=attempt.began,
            end=max(attempt.began, attempt.ended or now),
            ending=attempt.how or "running",
            resumes=attempt.attempt > 1,
        )
        for attempt in attempts
    ]
    return sorted(found, key=lambda span: (span.number, span.start))
