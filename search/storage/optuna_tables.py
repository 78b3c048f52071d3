"""Optuna's tables, as our own statements name them."""

from optuna.storages._rdb import models

__all__ = ["study_user_attrs", "trial_user_attrs", "trials"]

study_user_attrs = models.StudyUserAttributeModel.__table__
trial_user_attrs = models.TrialUserAttributeModel.__table__
trials = models.TrialModel.__table__
