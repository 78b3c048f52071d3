"""A pytest plugin: scikit-learn's tests find StudySearchCV where they import RandomizedSearchCV.

The environment variable STUDY_SEARCH_SAMPLER names the sampler that the class uses by default.
Only the tests that have to do with RandomizedSearchCV are kept.
"""

import inspect
import os

import pytest
import sklearn.model_selection

from search.sklearn import StudySearchCV

# scikit-learn reads a class's parameters and their defaults from its __init__.
StudySearchCV.__init__.__kwdefaults__["sampler"] = os.environ["STUDY_SEARCH_SAMPLER"]
sklearn.model_selection.RandomizedSearchCV = StudySearchCV


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    kept = [item for item in items if _concerns_us(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _concerns_us(item: pytest.Function) -> bool:
    if "StudySearchCV" in item.name:
        return True
    if item.path.name == "test_metaestimators.py":  # its one test walks over all classes
        return True
    return "RandomizedSearchCV" in inspect.getsource(item.function)
