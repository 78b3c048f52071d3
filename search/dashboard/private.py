"""The parts of Optuna and optuna-dashboard that have no public name as of 5.0 and 0.21."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.artifacts._protocol import ArtifactStore  # the type of a store, for annotations only
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

__all__ = ["ArtifactStore", "serialized", "storage_of", "stored_note", "study_id_of", "trial_id_of"]


def storage_of(study: optuna.Study) -> BaseStorage:
    """A study's storage: only storages read and write a study's system attributes."""
    return study._storage


def study_id_of(study: optuna.Study) -> int:
    """A study's id in its storage, as in the addresses of optuna-dashboard."""
    return storage_of(study).get_study_id_from_name(study.study_name)


def trial_id_of(trial: FrozenTrial) -> int:
    """A trial's id in its storage: optuna-dashboard keys artifacts by it, not by the number."""
    return trial._trial_id


def serialized(study_id: int, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Trials as the page of optuna-dashboard gets them."""
    from optuna_dashboard._serializer import serialize_frozen_trial

    return [dict(serialize_frozen_trial(study_id, trial, {})) for trial in trials]


def stored_note(study: optuna.Study) -> str:
    """A study's note: `save_note` is public, its counterpart is not."""
    from optuna_dashboard._note import get_note

    return str(get_note(study))
