"""`cv_results_` when some folds were not run: masks, means of what was run, and ranks."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from search.errors import NoResult
from search.sklearn.upstream import Format

__all__ = ["CANDIDATE", "FOLD", "format_incomplete"]

#: Added to what scikit-learn's `_fit_and_score` returns for one fold.
CANDIDATE, FOLD = "candidate", "fold"


def format_incomplete(
    format_results: Format,
    candidate_params: Sequence[Mapping[str, Any]],
    n_splits: int,
    out: Sequence[Mapping[str, Any]],
    more_results: Mapping[str, Sequence[Any]] | None,
) -> dict[str, Any]:
    """Format fold results that name their candidate and fold, of which some may be missing.

    Candidates without any fold are left out. The others have the mean and deviation of the folds
    they have; a missing fold is masked; an incomplete candidate shares the last rank.

    Args:
        format_results: scikit-learn's own, which wants every fold of every candidate.

    Raises:
        NoResult: no candidate has all its folds.
    """
    folds: dict[int, dict[int, Mapping[str, Any]]] = {}
    for result in out:
        folds.setdefault(result[CANDIDATE], {})[result[FOLD]] = result
    rows = sorted(folds)
    run = np.array([[fold in folds[row] for fold in range(n_splits)] for row in rows])
    if not run.all(axis=1).any():
        stopped_by = (more_results or {}).get("stopped_by", [])
        raise NoResult(_why_none([stopped_by[row] for row in rows], n_splits, out))
    # A missing fold is given the mean of the others, which leaves the mean what it is.
    filled = [
        folds[row].get(fold) or _mean_fold(list(folds[row].values()))
        for row in rows
        for fold in range(n_splits)
    ]
    results = format_results(
        [candidate_params[row] for row in rows],
        n_splits,
        filled,
        {key: [values[row] for row in rows] for key, values in (more_results or {}).items()},
    )
    if not run.all():
        _mask(results, run)
    return results


def _why_none(stopped_by: Sequence[str], n_splits: int, out: Sequence[Mapping[str, Any]]) -> str:
    """What to say when no candidate has all its folds."""
    count = len(stopped_by)
    if set(stopped_by) == {"pruner"}:
        scores = [result["test_scores"] for result in out]
        numbers = [v for s in scores for v in (s.values() if isinstance(s, Mapping) else [s])]
        if np.isnan(numbers).all():
            return (
                f"the pruner stopped each of the {count} candidates, as each score was NaN; "
                "see the warnings of scoring and fit for the cause"
            )
        return (
            f"the pruner stopped each of the {count} candidates before its last of "
            f"{n_splits} folds, so there is none to choose; use a milder pruner"
        )
    return (
        f"no candidate has all its {n_splits} folds yet: {count} were begun, and the "
        "timeout was over before one was through; call fit again, or give a longer timeout"
    )


def _mean_fold(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mean = copy.copy(dict(results[0]))
    for key in ("fit_time", "score_time", "test_scores", "train_scores"):
        if key not in mean:
            continue
        values = [result[key] for result in results]
        if isinstance(values[0], Mapping):
            mean[key] = {name: np.mean([v[name] for v in values]) for name in values[0]}
        else:
            mean[key] = np.mean(values)
    return mean


def _mask(results: dict[str, Any], run: np.ndarray[Any, Any]) -> None:
    """Mask the folds that were not run; correct deviations and ranks.

    Args:
        run: (candidates, folds) bool, True where the fold was run.
    """
    n_splits = run.shape[1]
    for key in list(results):
        if key.startswith("split"):
            fold = int(key.removeprefix("split").partition("_")[0])
            results[key] = np.ma.MaskedArray(results[key], mask=~run[:, fold])
        elif key.startswith("std_"):
            # The filled folds added nothing to the sum of squares, only to its divisor.
            results[key] = results[key] * np.sqrt(n_splits / run.sum(axis=1))
        elif key.startswith("rank_test_"):
            means = np.where(run.all(axis=1), results["mean_" + key.removeprefix("rank_")], np.nan)
            ranked = ~np.isnan(means)
            last = ranked.sum() + 1  # all candidates without a mean share it
            ranks = np.full(len(means), last, dtype=np.int32)
            ranks[ranked] = rankdata(-means[ranked], method="min")
            results[key] = ranks
