"""Why trials end, and what the attempts of a lineage begin with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "ARM_ATTR",
    "AUDIT_ATTR",
    "CONTROL",
    "CURVES",
    "LEASE_ATTR",
    "LINEAGE_ATTR",
    "REASON_ATTR",
    "RETRY_ATTR",
    "Fresh",
    "Reason",
    "first_attempt",
    "next_attempt",
]

LEASE_ATTR = "search:lease"  # system attribute of a trial: [lineage, attempt]
REASON_ATTR = "reason"  # user attribute: a Reason's value
RETRY_ATTR = "retry_of"  # user attribute: number of the trial that it continues
LINEAGE_ATTR = "lineage"  # user attribute
ARM_ATTR = "arm"  # user attribute: CONTROL, or absent
CONTROL = "control"  # drawn at random and not pruned, to compare the sampler and pruner with
AUDIT_ATTR = "audit"  # user attribute: {"trial": , "step": , "value": } that would have been pruned

#: User attribute that holds the curves: name -> one value per recorded step; "step" -> steps.
CURVES = "curves"

_OF_ONE_ATTEMPT = (REASON_ATTR, RETRY_ATTR, "error", "traceback")


class Reason(Enum):
    """Why a trial ended other than by completing or by being pruned for its curve."""

    DIVERGED = "diverged"  # numbers no longer finite; told as PRUNED, the sampler learns from it
    OUT_OF_MEMORY = "out-of-memory"  # the device or the machine had none left; not repeated
    TIMEOUT = "timeout"  # ran longer than one trial may; not repeated
    LOST = "lost"  # its worker died; repeated up to max_retries times
    STOPPED = "stopped"  # somebody asked its worker to stop; repeated, counts as no loss
    ERROR = "error"  # the problem's code raised; not repeated, unless the study was halted for it


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What the first attempt of a lineage begins with.

    Attributes:
        params: values that the trial's `suggest` calls shall return (a named trial, a grid point).
        user_attrs: set from the start.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    user_attrs: Mapping[str, Any] = field(default_factory=dict)


def first_attempt(fresh: Fresh) -> FrozenTrial:
    """A RUNNING trial without a number."""
    trial = _running()
    trial.user_attrs = dict(fresh.user_attrs)
    if fresh.params:
        trial.system_attrs = {"fixed_params": dict(fresh.params)}  # Optuna's own
    return trial


def next_attempt(old: FrozenTrial) -> FrozenTrial:
    """A RUNNING trial without a number that goes on with what an ended one had recorded.

    One that failed by an error of its code starts over, with the same parameters.
    """
    trial = _running()
    trial.params = dict(old.params)
    trial.distributions = dict(old.distributions)
    trial.intermediate_values = dict(old.intermediate_values)
    trial.system_attrs = dict(old.system_attrs)
    trial.user_attrs = {k: v for k, v in old.user_attrs.items() if k not in _OF_ONE_ATTEMPT}
    trial.user_attrs[RETRY_ATTR] = old.number
    if old.user_attrs.get(REASON_ATTR) == Reason.ERROR.value:
        # Its code was mended since and its checkpoint is deleted: what it reported is to be redone.
        trial.intermediate_values = {}
        trial.user_attrs.pop(CURVES, None)
    return trial


def _running() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),  # noqa: DTZ005 - Optuna's convention: local, naive
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
