"""What optuna-dashboard 0.21 gets wrong about constraints, put right on the way from the storage.

It reads constraints in the form before Optuna 5 only (one list under "constraints") and takes
`storage.get_best_trial`, which knows no constraints. Nothing is written: a study needs only
Optuna's own `trial.set_constraint`.
"""

import copy
from collections.abc import Callable, Container
from functools import wraps
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.dashboard.private import serialized
from search.outcome import front_of, is_feasible

__all__ = ["FeasibleStorage", "feasible_best"]


class FeasibleStorage:
    """A storage as optuna-dashboard must see it; all else is the storage behind it."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: ARG002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """The trials, with constraints mirrored to where optuna-dashboard looks for them.

        Never copies: it only reads them, and each of its plots would copy the whole study.
        """
        trials = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        return [_mirrored(trial) for trial in trials]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best feasible trial, as `study.best_trial`; the best of all when none is feasible.

        The latter is taken out again by `feasible_best`: here a trial must be returned.

        Raises:
            ValueError: no trial is COMPLETE.
        """
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        candidates = [trial for trial in complete if is_feasible(trial)] or complete
        if self._storage.get_study_directions(study_id) == [StudyDirection.MAXIMIZE]:
            return max(candidates, key=_only_value)
        return min(candidates, key=_only_value)


# optuna-dashboard asks isinstance(storage, BaseStorage); spelling out its thirty methods to pass
# each on would say nothing more.
BaseStorage.register(FeasibleStorage)


def feasible_best(storage: BaseStorage) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Bottle plugin: no infeasible trial is among the best, which with two metrics are the front.

    A study without a feasible trial has no best trial.
    """

    def plugin(callback: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(callback)
        def answer(*args: Any, **kwargs: Any) -> Any:
            body = callback(*args, **kwargs)
            if isinstance(body, dict) and "best_trials" in body:
                front = _front(storage, kwargs["study_id"])
                if front is not None:
                    body["best_trials"] = serialized(kwargs["study_id"], front)
                body["best_trials"] = [
                    trial
                    for trial in body["best_trials"]
                    if all(excess <= 0 for excess in trial["constraints"])
                ]
            return body

        return answer

    return plugin


def _front(storage: BaseStorage, study_id: int) -> list[FrozenTrial] | None:
    """The front of a study with two metrics whose trials have constraints.

    optuna-dashboard leaves out of the front what an infeasible trial betters.
    """
    directions = storage.get_study_directions(study_id)
    if len(directions) != 2:
        return None
    trials = storage.get_all_trials(study_id, deepcopy=False)
    if not any(trial.constraints for trial in trials):
        return None
    front = front_of(trials, [direction.name.lower() for direction in directions])
    return [_mirrored(trial) for trial in front]


def _mirrored(trial: FrozenTrial) -> FrozenTrial:
    constraints = trial.constraints
    if not constraints:
        return trial
    mirrored = copy.copy(trial)  # the storage's cache holds the original
    mirrored._system_attrs = {**trial._system_attrs, "constraints": list(constraints.values())}
    return mirrored


def _only_value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
