"""The trials that the attempts of a lineage begin with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason

__all__ = ["Fresh", "first_attempt", "next_attempt"]

#: What a trial has from the start, whatever becomes of it.
_GIVEN = (
    attributes.NAME,
    attributes.ARM,
    attributes.DATA,
    attributes.LINEAGE,
    attributes.PARAMS,
    attributes.DECISIONS,
    attributes.LAST_STEP,
    attributes.AMENDMENT,
)
#: What says how one attempt ended.
_ENDING = (
    attributes.REASON,
    attributes.RETRY_OF,
    attributes.ERROR,
    attributes.ERROR_AT,
    attributes.TRACEBACK,
)


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What the first attempt of a lineage begins with.

    Attributes:
        params: values that the trial's `suggest` calls shall return (a named trial, a grid point).
        user_attrs: set from the start.
        pause_at: the step at which it pauses; None: it runs to its end.
        decision: the number of the decision by which it begins; None for one that needs none.
        amendment: the number of the last amendment of the spec by which it begins, 0 before the
            first; None where the caller knows of no spec.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    pause_at: int | None = None
    decision: int | None = None
    amendment: int | None = None


def first_attempt(fresh: Fresh) -> FrozenTrial:
    """A RUNNING trial without a number."""
    trial = _running()
    trial.user_attrs = dict(fresh.user_attrs)
    if fresh.amendment:
        trial.user_attrs[attributes.AMENDMENT] = fresh.amendment
    if fresh.params:
        trial.system_attrs = {attributes.FIXED_PARAMS: dict(fresh.params)}
    return trial


def next_attempt(old: FrozenTrial) -> FrozenTrial:
    """A RUNNING trial without a number that retries an ended one, with the same parameters.

    After a lost worker it goes on with all that was recorded. After an error of its code, which
    was mended since, it starts over: nothing that the faulty code reported or caused is kept.
    """
    trial = _running()
    trial.params = dict(old.params)
    trial.distributions = dict(old.distributions)
    if old.user_attrs.get(attributes.REASON) == Reason.ERROR.value:
        trial.user_attrs = {k: v for k, v in old.user_attrs.items() if k in _GIVEN}
        trial.system_attrs = {
            key: value
            for key, value in old.system_attrs.items()
            if not key.startswith(attributes.COMPLETED_RUNG)
        }
    else:
        trial.user_attrs = {k: v for k, v in old.user_attrs.items() if k not in _ENDING}
        trial.system_attrs = dict(old.system_attrs)
        trial.intermediate_values = dict(old.intermediate_values)
    trial.user_attrs[attributes.RETRY_OF] = old.number
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
