"""What is private in Optuna and used here: its tables, and the type of what lists the studies.

No public call of Optuna's changes two tables in one transaction, which is what the ledger promises.
`optuna_rdb.connect` refuses tables of another version than these.
"""

from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy

__all__ = [
    "FrozenStudy",
    "models",
    "studies",
    "study_user_attrs",
    "trial_steps",
    "trial_system_attrs",
    "trial_user_attrs",
    "trials",
]

studies = models.StudyModel.__table__
study_user_attrs = models.StudyUserAttributeModel.__table__
trial_steps = models.TrialIntermediateValueModel.__table__
trial_system_attrs = models.TrialSystemAttributeModel.__table__
trial_user_attrs = models.TrialUserAttributeModel.__table__
trials = models.TrialModel.__table__
