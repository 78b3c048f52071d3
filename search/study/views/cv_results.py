"""The trials of a cross-validated study in the shape of scikit-learn's `cv_results_`."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev
from typing import Any, TextIO

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.cross_validation import FOLD_SCORE, FOLD_TRAIN_SCORE
from search.errors import SearchError
from search.study.study import Study

__all__ = ["cv_results", "write_cv_results"]

_CONTINUED = (Reason.LOST.value, Reason.STOPPED.value)  # by another trial of the lineage
_TIMES = {"fit_time": "fit_seconds", "score_time": "score_seconds"}


def cv_results(study: Study) -> dict[str, list[Any]]:
    """Columns by scikit-learn's names, one value per candidate in order of trial number.

    Candidates are the trials that have ended, except those that another trial continues. None
    stands for a fold that was not run, a parameter that does not apply, and a mean over no fold.
    NaN stands for a score that is not finite. Means and deviations are over the folds that were
    run. Candidates that are not COMPLETE share the last rank.

    Raises:
        SearchError: the study is not cross-validated.
    """
    folds = study.spec.folds
    if folds is None:
        raise SearchError(
            f"study {study.name!r} is not cross-validated, so it has no folds; cv_results needs "
            'mode = "cross-validation" in the study file'
        )
    trials = [
        trial
        for trial in study.trials
        if trial.state.is_finished() and trial.user_attrs.get(attributes.REASON) not in _CONTINUED
    ]
    params = sorted({name for trial in trials for name in trial.params})
    results: dict[str, list[Any]] = {}
    for name, curve in _TIMES.items():
        values = [_curve(trial, curve) for trial in trials]
        results[f"mean_{name}"], results[f"std_{name}"] = _mean_and_std(values)
    for name in params:
        results[f"param_{name}"] = [trial.params.get(name) for trial in trials]
    results["params"] = [dict(trial.params) for trial in trials]
    for part, curve in (("test", FOLD_SCORE), ("train", FOLD_TRAIN_SCORE)):
        values = [_curve(trial, curve) for trial in trials]
        for fold in range(folds):
            column = [scores[fold] if fold < len(scores) else None for scores in values]
            results[f"split{fold}_{part}_score"] = column
        means, deviations = _mean_and_std(values)
        results[f"mean_{part}_score"], results[f"std_{part}_score"] = means, deviations
        if part == "test":
            results["rank_test_score"] = list(_ranks(trials, study.spec.direction))
    return results


def write_cv_results(study: Study, out: TextIO) -> None:
    """`cv_results` as CSV; `params` as JSON, None as an empty cell."""
    results = cv_results(study)
    results["params"] = [json.dumps(params) for params in results["params"]]
    writer = csv.writer(out)
    writer.writerow(results)
    writer.writerows(zip(*results.values(), strict=True))


def _curve(trial: FrozenTrial, name: str) -> list[float]:
    curve = trial.user_attrs.get(attributes.CURVES, {}).get(name, [])
    return [math.nan if value is None else value for value in curve]


def _mean_and_std(values: Sequence[list[float]]) -> tuple[list[Any], list[Any]]:
    """Means and standard deviations, one per candidate, over its folds; None without folds."""
    return (
        [fmean(folds) if folds else None for folds in values],
        [_deviation(folds) if folds else None for folds in values],
    )


def _deviation(values: list[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else pstdev(values)


def _ranks(trials: Sequence[FrozenTrial], direction: str) -> Iterator[int]:
    """1 for the best; candidates of equal value share the lower rank, as in scikit-learn."""
    sign = -1.0 if direction == "maximize" else 1.0
    losses = [
        sign * trial.value
        if trial.state is TrialState.COMPLETE and trial.value is not None
        else math.inf
        for trial in trials
    ]
    for loss in losses:
        yield 1 + sum(other < loss for other in losses)
