"""StudySearchCV beside scikit-learn's RandomizedSearchCV: overhead, and time to its best score.

    python benchmarks/sklearn_search.py [--candidates 200] [--rounds 3]

Overhead: candidates whose fit takes 20 ms of waiting, so that nothing but the search differs, and
two folds each. The rounds are interleaved; a ratio is a median over rounds, with its range.

Time to best: SVC on the digits data, 5 folds. RandomizedSearchCV's search gives the score to reach
and the time that took it; StudySearchCV uses TPE and the median pruner. Several seeds.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sklearn
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV
from sklearn.svm import SVC

from search.sklearn import StudySearchCV

FIT_SECONDS = 0.020
FOLDS = 2


class Waiting(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Its fit takes 20 ms and no processor time."""

    def __init__(self, x: float = 0.0) -> None:
        self.x = x

    def fit(self, X: Any, y: Any = None) -> "Waiting":  # noqa: ARG002
        time.sleep(FIT_SECONDS)
        return self

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        return -((self.x - 0.3) ** 2)


class Timed(SVC):  # type: ignore[misc]
    """SVC that notes when each of its scores was there."""

    scores: list[tuple[float, float]] = []  # noqa: RUF012  shared by all clones

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        value = float(super().score(X, y, sample_weight))
        Timed.scores.append((time.perf_counter(), value))
        return value


def overhead(candidates: int, rounds: int, directory: Path) -> None:
    X = np.zeros((20, 2))
    kwargs: dict[str, Any] = {
        "n_iter": candidates,
        "cv": FOLDS,
        "random_state": 0,
        "refit": False,
    }
    number = iter(range(10**6))

    def stored() -> dict[str, str]:
        return {"storage": f"sqlite:///{directory}/{next(number)}.db", "study_name": "search"}

    modes: dict[str, Callable[[], dict[str, Any]]] = {
        "in memory": dict,
        "in memory, with a timeout": lambda: {"timeout": 3600.0},
        "in memory, tpe": lambda: {"sampler": "tpe"},
        "SQLite": stored,
        "SQLite, tpe": lambda: {"sampler": "tpe", **stored()},
    }
    reference: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    for _ in range(rounds):
        plain = RandomizedSearchCV(Waiting(), {"x": uniform()}, **kwargs)
        reference.append(_seconds(plain, X))
        for name, more in modes.items():
            search = StudySearchCV(Waiting(), {"x": uniform()}, **kwargs, **more())
            seconds[name].append(_seconds(search, X))
    print(
        f"\n{candidates} candidates x {FOLDS} folds of {FIT_SECONDS * 1e3:.0f} ms, n={rounds}: "
        f"RandomizedSearchCV {statistics.median(reference):.2f} s "
        f"({min(reference):.2f}-{max(reference):.2f})"
    )
    print(f"{'':28}{'ratio':>8}{'range':>16}{'ms/candidate':>14}")
    for name, times in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(times, reference, strict=True)]
        extra = statistics.median(
            (ours - theirs) / candidates for ours, theirs in zip(times, reference, strict=True)
        )
        print(
            f"{name:28}{statistics.median(ratios):8.3f}{min(ratios):9.3f}-{max(ratios):.3f}"
            f"{extra * 1e3:14.2f}"
        )


def time_to_best(n_iter: int, seeds: int) -> None:
    X, y = load_digits(return_X_y=True)
    space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-6, 1e1)}
    print(f"\nSVC on digits, {n_iter} candidates x 5 folds, seconds to RandomizedSearchCV's best")
    print(f"{'seed':>4}{'best':>9}{'random s':>10}{'tpe+median s':>14}{'ratio':>8}{'total':>8}")
    ratios, totals = [], []
    for seed in range(seeds):
        theirs = RandomizedSearchCV(
            Timed(), space, n_iter=n_iter, cv=5, random_state=seed, refit=False
        )
        target_at, total = _reached(theirs, X, y, None)
        target = float(np.max(theirs.cv_results_["mean_test_score"]))
        ours = StudySearchCV(
            Timed(),
            space,
            n_iter=n_iter,
            cv=5,
            random_state=seed,
            refit=False,
            sampler="tpe",
            pruner="median",
        )
        reached, ours_total = _reached(ours, X, y, target)
        ratios.append(reached / target_at)
        totals.append(ours_total / total)
        print(
            f"{seed:4}{target:9.4f}{target_at:10.2f}{reached:14.2f}{ratios[-1]:8.2f}"
            f"{totals[-1]:8.2f}"
        )
    print(
        f"median ratio {statistics.median(ratios):.2f}, of the whole search "
        f"{statistics.median(totals):.2f}, n={seeds} (inf: not reached with {n_iter} candidates)"
    )


def _reached(search: Any, X: Any, y: Any, target: float | None) -> tuple[float, float]:
    """Seconds until a complete candidate had the target (the best of all for None); in total."""
    Timed.scores.clear()
    began = time.perf_counter()
    search.fit(X, y)
    total = time.perf_counter() - began
    results = search.cv_results_
    folds = np.ma.stack([results[f"split{i}_test_score"] for i in range(5)], axis=1)
    run = np.cumsum(5 - np.ma.getmaskarray(folds).sum(axis=1))  # fits until each candidate's end
    complete = ~np.ma.getmaskarray(folds).any(axis=1)
    means = results["mean_test_score"]
    goal = np.max(means[complete]) if target is None else target
    hits = np.flatnonzero(complete & (means >= goal - 1e-12))
    if not len(hits):
        return float("inf"), total
    return Timed.scores[run[hits[0]] - 1][0] - began, total


def _seconds(search: Any, X: Any) -> float:
    began = time.perf_counter()
    search.fit(X)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=60)
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"scikit-learn {sklearn.__version__}, Optuna {optuna.__version__}"
    )
    with tempfile.TemporaryDirectory() as directory:
        overhead(arguments.candidates, arguments.rounds, Path(directory))
    time_to_best(arguments.iterations, arguments.seeds)


if __name__ == "__main__":
    main()
