"""Irises to search on, and what a search or its storage holds in the end."""

from typing import Any

import numpy as np
import optuna
from sklearn.datasets import load_iris

from search.storage import open_storage

__all__ = ["X", "Y", "results_of", "trials_of"]

X, Y = load_iris(return_X_y=True)


def results_of(search: Any, *, skip: tuple[str, ...] = ("_time", "stopped_by")) -> dict[str, Any]:
    return {
        key: np.ma.asarray(value).tolist() if key != "params" else value
        for key, value in search.cv_results_.items()
        if not any(word in key for word in skip)
    }


def trials_of(url: str, name: str = "search") -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(url)
    try:
        return optuna.load_study(study_name=name, storage=storage.optuna).get_trials()
    finally:
        storage.close()
