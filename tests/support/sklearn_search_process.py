"""A process that fits a stored search and prints its results; tests start and kill it.

Usage: sklearn_search_process.py URL LOG SECONDS [N_JOBS [SAMPLER [GO]]]

It waits until the file GO is there, when one is named.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

N_ITER, FOLDS = 8, 3


class Logged(ClassifierMixin, BaseEstimator):
    """A weighted vote of neighbours that writes a line for every fit and takes its time."""

    def __init__(self, power: float = 1.0, log: str = "", seconds: float = 0.0) -> None:
        self.power = power
        self.log = log
        self.seconds = seconds

    def fit(self, X: Any, y: Any) -> "Logged":
        self.classes_ = np.unique(y)
        self.model_ = KNeighborsClassifier(9, p=1 + self.power).fit(X, y)
        time.sleep(self.seconds)
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {self.power!r} {len(X)} {np.sum(X):.6f}\n")
        return self

    def predict(self, X: Any) -> Any:
        return self.model_.predict(X)


SPACE = {"power": uniform(0.1, 3)}


def main(
    url: str, log: str, seconds: str, n_jobs: str = "1", sampler: str = "random", go: str = ""
) -> None:
    from search.sklearn import StudySearchCV

    while go and not Path(go).exists():
        time.sleep(0.01)
    search = StudySearchCV(
        Logged(log=log, seconds=float(seconds)),
        SPACE,
        n_iter=N_ITER,
        cv=FOLDS,
        random_state=0,
        n_jobs=int(n_jobs),
        sampler=sampler,
        storage=url,
        study_name="search",
    ).fit(*load_iris(return_X_y=True))
    print(
        json.dumps({key: np.asarray(value).tolist() for key, value in search.cv_results_.items()})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
