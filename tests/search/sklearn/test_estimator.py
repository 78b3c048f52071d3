"""StudySearchCV in memory, against scikit-learn's RandomizedSearchCV and ParameterSampler."""

import pickle
import time
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.stats import bernoulli, expon, loguniform, poisson, randint, uniform
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, ParameterSampler, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from search.errors import NoResult, SpecError
from search.sklearn import StudySearchCV
from search.sklearn.distributions import Distributions

NEVER = {"name": "threshold", "lower": -1e9}  # a pruner that stops nobody
IRIS = load_iris(return_X_y=True)
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))

SEARCHES = {
    "svc": (SVC(), {"C": loguniform(1e-2, 1e2), "gamma": expon(scale=0.1)}, IRIS, {}),
    "lists": (
        PIPELINE,
        [
            {"standardscaler": [MinMaxScaler(), None, StandardScaler()]},
            {"logisticregression__C": uniform(0.1, 2), "logisticregression__tol": [1e-3, 1e-4]},
        ],
        IRIS,
        {"scoring": "f1_macro", "return_train_score": True},
    ),
    "multimetric": (
        Ridge(),
        {"alpha": uniform(0, 10), "fit_intercept": [True, False]},
        load_diabetes(return_X_y=True),
        {"scoring": ["r2", "neg_mean_absolute_error"], "refit": "neg_mean_absolute_error"},
    ),
    "callable refit": (
        Ridge(),
        {"alpha": uniform(0, 10)},
        load_diabetes(return_X_y=True),
        {"refit": lambda results: int(np.argmax(results["std_test_score"]))},
    ),
}


class Hill(BaseEstimator):
    """Its score is higher the nearer x is to 0.3; one fold differs from the next a little."""

    def __init__(self, x: float = 0.0, seconds: float = 0.0) -> None:
        self.x = x
        self.seconds = seconds

    def fit(self, X: Any, y: Any = None) -> "Hill":
        time.sleep(self.seconds)
        self.offset_ = 0.01 * float(np.mean(X))
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return -((self.x - 0.3) ** 2) + self.offset_


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal to the last bit, times and our own column aside."""
    assert set(ours) - {"stopped_by"} == set(theirs)
    for key in theirs:
        if "_time" not in key:
            assert str(ours[key]) == str(theirs[key]), key
            if key != "params" and not key.startswith("param_"):
                np.testing.assert_array_equal(ours[key], theirs[key])


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"timeout": 600.0}, {"pruner": NEVER}, {"n_jobs": 2}])
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("search", SEARCHES)
def test_equals_randomized_search(search: str, seed: int, more: dict[str, Any]) -> None:
    estimator, space, (X, y), options = SEARCHES[search]
    if more == {"n_jobs": 2}:
        more = {"n_jobs": 2, "timeout": 600.0}
    kwargs = {**options, "n_iter": 6, "cv": 3, "random_state": seed}
    theirs = RandomizedSearchCV(estimator, space, **kwargs).fit(X, y)
    ours = StudySearchCV(estimator, space, **kwargs, **more).fit(X, y)
    same(ours.cv_results_, theirs.cv_results_)
    assert ours.best_index_ == theirs.best_index_
    assert str(ours.best_params_) == str(theirs.best_params_)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize(
    "space",
    [
        {"a": [1, 2, 3], "b": expon(), "c": np.linspace(0, 1, 5)},
        {"a": ["x", None, 1.5], "b": [True, 1, 1.0]},
        [{"a": randint(0, 9)}, {"a": bernoulli(0.3), "b": poisson(4)}, {"z": [[1, 2], [3]]}],
        {},
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_what_parameter_sampler_draws(space: Any, seed: int) -> None:
    distributions = Distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a space smaller than n_iter
        points = distributions.draw(5, seed)
        expected = list(ParameterSampler(space, 5, random_state=seed))
    assert str([distributions.params(point) for point in points]) == str(expected)


@pytest.mark.parametrize("source", [expon(), poisson(4), uniform(2, 3), randint(3, 9), ["a", "b"]])
def test_a_value_survives_the_way_to_optuna_and_back(source: Any) -> None:
    distributions = Distributions({"a": source})
    dimension = distributions.parts[0]["a"]
    for point in distributions.draw(2, 0):
        value = point.values["a"]
        back = dimension.from_optuna(dimension.to_optuna(value))
        assert back == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("more", [{"sampler": "tpe"}, {"timeout": 600.0}])
def test_a_distribution_of_one_value(more: dict[str, Any]) -> None:
    space = {"C": uniform(2, 0), "gamma": uniform(0.1, 0.5)}
    search = StudySearchCV(SVC(), space, n_iter=3, cv=3, random_state=0, **more).fit(*IRIS)
    assert search.cv_results_["param_C"].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.slow
def test_tpe_closes_in_on_the_best() -> None:
    X = np.arange(30.0).reshape(-1, 1)

    def distance(**more: Any) -> float:
        search = StudySearchCV(Hill(), {"x": uniform(-10, 20)}, n_iter=60, random_state=0, **more)
        drawn = search.fit(X).cv_results_["param_x"][-20:].data.astype(float)
        return float(np.median(np.abs(drawn - 0.3)))

    assert distance(sampler="tpe") < distance() / 3


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
@pytest.mark.parametrize("sampler", ["tpe", "qmc", "cma-es", {"name": "tpe", "n_ei_candidates": 5}])
def test_is_the_same_search_each_time(sampler: Any, pruner: str) -> None:
    X, y = IRIS

    def run() -> dict[str, Any]:
        space = [{"C": loguniform(1e-3, 1e2)}, {"gamma": expon(), "kernel": ["rbf", "poly"]}]
        search = StudySearchCV(
            SVC(), space, n_iter=14, random_state=3, sampler=sampler, pruner=pruner, n_jobs=2
        )
        return search.fit(X, y).cv_results_  # type: ignore[no-any-return]

    same(run(), {k: v for k, v in run().items() if k != "stopped_by"})


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "grid"])
def test_a_small_space_is_visited_once_per_point(sampler: str) -> None:
    search = StudySearchCV(
        SVC(), {"C": [1, 2, 3], "kernel": ["rbf", "poly"]}, n_iter=9, sampler=sampler
    )
    with pytest.warns(UserWarning, match="smaller than n_iter=9"):
        search.fit(*IRIS)
    assert len({str(params) for params in search.cv_results_["params"]}) == 6
    assert len(search.cv_results_["params"]) == 6


def test_pruned_candidates_are_masked_and_last() -> None:
    X = np.arange(30.0).reshape(-1, 1)
    search = StudySearchCV(
        Hill(), {"x": uniform(-10, 20)}, n_iter=20, random_state=0, pruner="median"
    ).fit(X)
    results = search.cv_results_
    stopped = results["stopped_by"] == "pruner"
    assert 0 < stopped.sum() < 20
    assert set(results["stopped_by"]) == {"", "pruner"}
    folds = np.ma.stack([results[f"split{i}_test_score"] for i in range(5)], axis=1)
    np.testing.assert_array_equal(folds.mask.any(axis=1), stopped)
    np.testing.assert_allclose(results["mean_test_score"], folds.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(results["std_test_score"], folds.std(axis=1), atol=1e-12)
    last = results["rank_test_score"].max()
    np.testing.assert_array_equal(results["rank_test_score"] == last, stopped)
    assert results["stopped_by"][search.best_index_] == ""


def test_timeout_keeps_what_was_run() -> None:
    X = np.arange(30.0).reshape(-1, 1)
    search = StudySearchCV(Hill(seconds=0.02), {"x": uniform()}, n_iter=500, timeout=1.0).fit(X)
    results = search.cv_results_
    assert 1 <= len(results["params"]) < 500
    assert all(list(params) == ["x"] for params in results["params"])
    assert set(results["stopped_by"][:-1]) <= {""}


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_first_candidate_is_finished_whatever_the_timeout(n_jobs: int) -> None:
    X = np.arange(30.0).reshape(-1, 1)
    search = StudySearchCV(
        Hill(seconds=0.05), {"x": uniform()}, n_iter=8, timeout=1e-6, n_jobs=n_jobs, random_state=0
    ).fit(X)
    assert list(search.cv_results_["stopped_by"]) == [""]


def test_a_pruner_that_stops_everyone_leaves_nothing_to_choose() -> None:
    pruner = {"name": "threshold", "lower": 1e9}
    with pytest.raises(NoResult, match="stopped each of the 3 candidates"):
        StudySearchCV(SVC(), {"C": uniform(1, 2)}, n_iter=3, pruner=pruner).fit(*IRIS)


def test_a_failing_fit_is_reported_as_scikit_learn_reports_it() -> None:
    space = {"C": [1.0, -1.0, 2.0]}  # -1 is refused by the estimator's fit
    search = StudySearchCV(SVC(), space, n_iter=3, random_state=0, timeout=600.0)
    with pytest.warns() as caught:
        search.fit(*IRIS)
    assert "5 fits failed out of a total of 15" in str([str(w.message) for w in caught])
    failed = [params["C"] == -1.0 for params in search.cv_results_["params"]]
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), failed)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sampler": "tpo"}, "unknown sampler 'tpo'; did you mean 'tpe'"),
        ({"pruner": "medien"}, "unknown pruner 'medien'; did you mean 'median'"),
        ({"pruner": {"n_startup_trials": 3}}, "pruner needs a name"),
        ({"sampler": {"name": "tpe", "startup": 3}}, "has no option 'startup'"),
        ({"sampler": "grid"}, "list its values"),
        ({"storage": "sqlite:///x.db"}, "need storage and study_name together"),
        ({"study_name": "x"}, "need storage and study_name together"),
    ],
)
def test_a_wrong_parameter_gets_one_clear_line(more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        StudySearchCV(SVC(), {"C": uniform(1, 2)}, n_iter=3, **more).fit(*IRIS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("around", [clone, make_pipeline, lambda search: GridSearchCV(search, {})])
def test_a_password_is_kept_but_not_shown(around: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://user:s3cret@host/studies"
    search = around(StudySearchCV(SVC(), {"C": [1.0]}, storage=url, study_name="svc"))
    with config_context(print_changed_only=False):
        print(search, search._repr_html_(), search.get_params())
    shown = capsys.readouterr().out
    assert "s3cret" not in shown
    assert shown.count("postgresql://user:***@host/studies") >= 3
    for kept in (search, clone(search), pickle.loads(pickle.dumps(search))):
        (name,) = [key for key in kept.get_params() if key.split("__")[-1] == "storage"]
        assert kept.get_params()[name] == str(kept.get_params()[name]) == url
        assert kept.set_params(**{name: "sqlite:///a.db"}).get_params()[name] == "sqlite:///a.db"


@pytest.mark.parametrize("text", ["no url", "postgresql://host:port/x"])
def test_a_storage_that_is_no_url_can_be_shown(text: str) -> None:
    assert f"storage={text!r}" in repr(StudySearchCV(SVC(), {}, storage=text, study_name="x"))
