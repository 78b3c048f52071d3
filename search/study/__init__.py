"""A study in a storage: its frozen spec, its ledger, its trials."""

from search.study.create import create_study, validate
from search.study.load_problem import load_problem
from search.study.study import Study, open_study, study_names

__all__ = ["Study", "create_study", "load_problem", "open_study", "study_names", "validate"]
