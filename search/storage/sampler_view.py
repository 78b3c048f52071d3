"""What a study's sampler and pruner are shown of its trials.

A control trial is not shown. A trial that runs on though the pruner would have ended it is shown
as the pruned one it would be, from then on, whatever becomes of it: so neither control nor audit
changes what is proposed and what is pruned.
"""

import copy
from collections.abc import Container

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.storage.optuna_cache import OptunaStorage

__all__ = ["SearchedStorage", "as_searched"]


class SearchedStorage(OptunaStorage):
    """A view of a storage that differs in `get_all_trials` alone."""

    def __init__(self, whole: OptunaStorage) -> None:
        self.__dict__ = whole.__dict__  # one cache, one lock, one connection pool

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        whole = super().get_all_trials(study_id, deepcopy=False)
        shown = [seen for seen in map(as_searched, whole) if seen is not None]
        if states is not None:
            shown = [trial for trial in shown if trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown


def as_searched(trial: FrozenTrial) -> FrozenTrial | None:
    """A trial as the sampler and the pruner see it; None when they do not."""
    if trial.user_attrs.get(attributes.ARM) == attributes.CONTROL:
        return None
    audit = trial.user_attrs.get(attributes.AUDIT)
    if audit is None:
        return trial
    if audit["trial"] != trial.number:
        return None  # an attempt to finish the audit of an earlier one, which is shown
    seen = copy.copy(trial)
    seen.state = TrialState.PRUNED
    seen.value = audit["value"]
    seen.intermediate_values = {
        step: value for step, value in trial.intermediate_values.items() if step <= audit["step"]
    }
    seen.datetime_complete = trial.datetime_complete or trial.datetime_start
    return seen
