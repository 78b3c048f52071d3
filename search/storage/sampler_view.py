"""The storage as a study's sampler and pruner see it.

A control trial is hidden. A trial that runs on although the pruner would have ended it is shown as
the pruned one it would be, from that step on and whatever becomes of it. So neither control nor
audit changes what is proposed and what is pruned. After an amendment of the space a trial is shown
with the parameters that it has in the new one, or hidden. Trials of earlier studies are shown as
long as there are few own ones. With two metrics a trial that ended early
is shown without its curve.
"""

import copy
from collections.abc import Callable, Container, Sequence

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.storage.optuna_cache import OptunaStorage

__all__ = ["SearchedStorage", "as_searched"]


class SearchedStorage(OptunaStorage):
    """A storage beside another one, over the same connections and cache of trials.

    It differs in `get_all_trials` alone.

    Args:
        see: how a trial is seen by the present spec, None: not at all; without it, as it is.
        earlier: trials of earlier studies that are shown before the study's own, one fewer for each
            of these that has ended.
    """

    def __init__(
        self,
        whole: OptunaStorage,
        see: Callable[[FrozenTrial], FrozenTrial | None] | None = None,
        earlier: Sequence[FrozenTrial] = (),
    ) -> None:
        super().__init__(whole.rdb, whole._retry, whole._writing, whole._reopen, beside=whole)
        self._see = see
        self._earlier = earlier

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        whole = super().get_all_trials(study_id, deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in whole) if self._earlier else 0
        whole = [*self._earlier[ended:], *whole]
        shown = [seen for seen in map(as_searched, whole) if seen is not None]
        if self._see is not None:
            shown = [seen for seen in map(self._see, shown) if seen is not None]
        if len(self.get_study_directions(study_id)) > 1:
            shown = [_without_steps(trial) for trial in shown]
        if states is not None:
            shown = [trial for trial in shown if trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown


def _without_steps(trial: FrozenTrial) -> FrozenTrial:
    """A trial that ended early, without the curve by which Optuna's TPE would rank it.

    With two metrics TPE has no direction for it, and raises.
    """
    if trial.state is not TrialState.PRUNED or not trial.intermediate_values:
        return trial
    seen = copy.copy(trial)
    seen.intermediate_values = {}
    return seen


def as_searched(trial: FrozenTrial) -> FrozenTrial | None:
    """A trial as the sampler and the pruner see it; None for one that is hidden."""
    if trial.user_attrs.get(attributes.ARM) == attributes.CONTROL:
        return None
    audit = trial.user_attrs.get(attributes.AUDIT)
    if audit is None:
        return trial
    if audit["trial"] != trial.number:
        return None  # a later attempt at the audit of an earlier trial, which is shown
    seen = copy.copy(trial)
    seen.state = TrialState.PRUNED
    seen.value = audit["value"]
    seen.intermediate_values = {
        step: value for step, value in trial.intermediate_values.items() if step <= audit["step"]
    }
    seen.datetime_complete = trial.datetime_complete or trial.datetime_start
    return seen
