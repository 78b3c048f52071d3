"""A time limit while the clock is set, and what is refused in one line."""

import time
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score

from search.errors import SearchError
from search.sklearn import StudySearchCV, scheduling

X, Y = [[0.0], [1.0]] * 4, [0, 1] * 4


class Setting(BaseEstimator):
    """Its first fit sets the clock; each takes a moment."""

    by: ClassVar[float] = 0.0  # seconds by which the clock is set
    fits: ClassVar[int] = 0

    def __init__(self, x: int = 0) -> None:
        self.x = x

    def fit(self, X: Any, y: Any = None) -> "Setting":
        Setting.fits += 1
        time.sleep(0.1)
        return self

    def predict(self, X: Any) -> list[int]:
        return [0] * len(X)

    def score(self, X: Any, y: Any = None) -> float:
        return float(self.x)


def scores(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    return {"accuracy": accuracy_score(y, estimator.predict(X)), "x": estimator.x}


def fitted(monkeypatch: pytest.MonkeyPatch, by: float, timeout: float) -> StudySearchCV:
    Setting.fits = 0
    clock = SimpleNamespace(
        time=lambda: time.time() + (by if Setting.fits else 0.0),
        monotonic=time.monotonic,
        sleep=time.sleep,
    )
    monkeypatch.setattr(scheduling, "time", clock)
    search = StudySearchCV(
        Setting(), {"x": list(range(30))}, n_iter=30, cv=2, refit=False, timeout=timeout
    )
    return search.fit(X, Y)


def test_a_clock_that_is_put_back_does_not_lengthen_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = fitted(monkeypatch, -3600.0, 0.5)
    assert len(search.cv_results_["params"]) < 30


@pytest.mark.slow
def test_a_clock_that_is_put_forward_does_not_end_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    search = fitted(monkeypatch, 3600.0, 600.0)
    assert Setting.fits == 60
    assert set(search.cv_results_["stopped_by"]) == {""}


@pytest.mark.parametrize("stored", [False, True])
def test_a_metric_to_refit_by_that_no_scorer_gives_is_one_line(
    sqlite_url: str, stored: bool
) -> None:
    more: dict[str, Any] = {"storage": sqlite_url, "study_name": "s"} if stored else {}
    kwargs: dict[str, Any] = {"n_iter": 2, "cv": 2, "scoring": scores, "sampler": "tpe"}
    search = StudySearchCV(Setting(), {"x": list(range(9))}, refit="accurcy", **kwargs, **more)
    with pytest.raises(SearchError, match="need one of 'accuracy', 'x', got 'accurcy'") as raised:
        search.fit(X, Y)
    assert "\n" not in str(raised.value)


def test_a_storage_without_a_name_is_refused_without_its_password() -> None:
    storage = "postgresql://user:secret@host/studies"
    with pytest.raises(SearchError, match=r"got storage='.*user:\*\*\*@host/studies'") as raised:
        StudySearchCV(Setting(), {"x": [1, 2]}, storage=storage).fit(X, Y)
    assert "secret" not in str(raised.value)


def test_a_distribution_is_refused_by_the_grid_in_words_that_are_always_the_same() -> None:
    search = StudySearchCV(Setting(), {"x": loguniform(1, 2)}, sampler="grid")
    with pytest.raises(SearchError, match=r"x is the distribution reciprocal\(a=1, b=2\); list"):
        search.fit(X, Y)
