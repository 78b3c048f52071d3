"""A study in a storage: its frozen spec, its ledger, its trials."""

from search.study.create import (
    NewStudy,
    create_study,
    create_study_at,
    open_study,
    study_names,
)
from search.study.load_problem import load_problem
from search.study.study import Study
from search.study.validate import validate

__all__ = [
    "NewStudy",
    "Study",
    "create_study",
    "create_study_at",
    "load_problem",
    "open_study",
    "study_names",
    "validate",
]
