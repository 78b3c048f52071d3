"""scikit-learn's RandomizedSearchCV on the search service."""

from search.sklearn.estimator import StudySearchCV

__all__ = ["StudySearchCV"]
