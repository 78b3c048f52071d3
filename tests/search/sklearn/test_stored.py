"""StudySearchCV with a storage: resume, refusal of another search, crashes, several processes."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.sparse import csc_matrix, csr_array, csr_matrix
from scipy.stats import expon, loguniform
from sklearn.base import BaseEstimator
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from sklearn.svm import SVC
from stored_searches import X, Y, results_of, trials_of
from toy import toy_spec

from search.errors import NoResult, SearchError, StorageError, StudyChanged
from search.sklearn import StudySearchCV
from search.spec import parse_spec
from search.storage import open_storage
from search.study import create_study, open_study, study_names

ROOT = Path(__file__).parents[3]
DISTRIBUTIONS = {"C": loguniform(1e-2, 1e2), "gamma": expon(), "kernel": ["rbf", "poly"]}


class Counting(BaseEstimator):
    """Counts its fits."""

    fits = 0

    def __init__(self, x: float = 0.0, seconds: float = 0.0) -> None:
        self.x = x
        self.seconds = seconds

    def fit(self, X: Any, y: Any = None) -> "Counting":
        Counting.fits += 1
        time.sleep(self.seconds)
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return float("nan") if self.x > 3 else -self.x


def scored(estimator: Any, X: Any, y: Any, file: Any) -> float:
    return float(estimator.score(X, y))


@pytest.mark.slow
def test_equals_randomized_search_and_does_nothing_the_second_time(storage_url: str) -> None:
    kwargs: dict[str, Any] = {"n_iter": 5, "random_state": 2, "return_train_score": True}
    theirs = RandomizedSearchCV(SVC(), DISTRIBUTIONS, **kwargs).fit(X, Y)
    stored = {"storage": storage_url, "study_name": "search"}
    first = StudySearchCV(SVC(), DISTRIBUTIONS, **kwargs, **stored).fit(X, Y)
    assert results_of(first) == results_of(theirs)
    number = len(trials_of(storage_url))
    second = StudySearchCV(SVC(), DISTRIBUTIONS, **kwargs, **stored).fit(X, Y)
    # Times too: nothing was measured again.
    assert results_of(second, skip=()) == results_of(first, skip=())
    assert len(trials_of(storage_url)) == number == 5


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_proposes_what_it_proposes_in_memory(sqlite_url: str, sampler: str) -> None:
    kwargs: dict[str, Any] = {"n_iter": 14, "random_state": 2, "sampler": sampler, "cv": 3}
    kwargs["pruner"] = "median"
    memory = StudySearchCV(SVC(), DISTRIBUTIONS, **kwargs).fit(X, Y)
    stored = {"storage": sqlite_url, "study_name": "search"}
    ours = StudySearchCV(SVC(), DISTRIBUTIONS, **kwargs, **stored).fit(X, Y)
    again = StudySearchCV(SVC(), DISTRIBUTIONS, **kwargs, **stored).fit(X, Y)
    assert results_of(ours, skip=("_time",)) == results_of(memory, skip=("_time",))
    assert results_of(again, skip=()) == results_of(ours, skip=())


def test_every_candidate_is_a_trial_that_a_dashboard_can_show(storage_url: str) -> None:
    kwargs: dict[str, Any] = {"n_iter": 4, "random_state": 0, "cv": 3}
    search = StudySearchCV(
        SVC(), DISTRIBUTIONS, storage=storage_url, study_name="search", **kwargs
    ).fit(X, Y)
    for trial, params, mean in zip(
        trials_of(storage_url),
        search.cv_results_["params"],
        search.cv_results_["mean_test_score"],
        strict=True,
    ):
        assert trial.value == pytest.approx(mean, abs=1e-12)
        assert trial.params["C"] == params["C"]
        assert trial.params["kernel"] == params["kernel"]
        assert trial.params["gamma (quantile)"] == pytest.approx(expon.cdf(params["gamma"]))
        assert trial.user_attrs["params"] == params
        assert sorted(trial.intermediate_values) == [1, 2, 3]


def test_a_timeout_is_continued_fold_by_fold(sqlite_url: str) -> None:
    def search(timeout: float | None) -> StudySearchCV:
        return StudySearchCV(
            Counting(seconds=0.05),
            {"x": expon()},
            n_iter=6,
            cv=4,
            random_state=0,
            timeout=timeout,
            refit=False,
            storage=sqlite_url,
            study_name="search",
        )

    Counting.fits = 0
    runs = 0
    while True:
        runs += 1
        done = search(1.0).fit(X, Y)
        if len(done.cv_results_["params"]) == 6 and not any(done.cv_results_["stopped_by"]):
            break
        assert runs < 100
    assert Counting.fits == 24
    search(None).fit(X, Y)
    assert Counting.fits == 24


@pytest.mark.slow
@pytest.mark.parametrize("folds", [0, 1])
def test_a_timeout_while_another_process_has_the_only_candidate(
    sqlite_url: str, folds: int
) -> None:
    def search(timeout: float | None) -> StudySearchCV:
        return StudySearchCV(
            Counting(seconds=2.0),
            {"x": [1.0]},
            n_iter=1,
            cv=2,
            refit=False,
            random_state=0,
            timeout=timeout,
            storage=sqlite_url,
            study_name="search",
        )

    Counting.fits = 0
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(search(None).fit, X, Y)
        while Counting.fits < folds + 1:
            time.sleep(0.05)
        with pytest.raises(NoResult, match=f"no candidate has all its 2 folds yet: {folds} were"):
            search(0.1).fit(X, Y)
        other.result()
    assert Counting.fits == 2


@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn's, of scores that are NaN
def test_a_failed_candidate_is_kept_as_failed(sqlite_url: str) -> None:
    search = StudySearchCV(
        Counting(),
        {"x": [1.0, 4.0]},
        n_iter=2,
        cv=3,
        random_state=0,
        storage=sqlite_url,
        study_name="search",
    )
    Counting.fits = 0
    first, second = results_of(search.fit(X, Y)), results_of(search.fit(X, Y))
    assert str(first) == str(second)
    assert Counting.fits == 6 + 2  # two refits
    states = sorted(trial.state.name for trial in trials_of(sqlite_url))
    assert states == ["COMPLETE", "FAIL"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"y": Y[::-1]}, "data differs"),
        ({"cv": StratifiedKFold(4, shuffle=True, random_state=1)}, "splits differs"),
        ({"estimator": SVC(degree=4)}, "estimator was SVC() and is now SVC(degree=4)"),
        (
            {"param_distributions": {"C": loguniform(1e-2, 1e3)}},
            "param_distributions['C'] was reciprocal(a=0.01, b=100) and is now",
        ),
        ({"n_iter": 4}, "n_iter was 3 and is now 4"),
        ({"random_state": 1}, "random_state was 0 and is now 1"),
        ({"sampler": "tpe"}, "sampler was random and is now tpe"),
        ({"scoring": "f1_macro"}, "scoring was None and is now f1_macro"),
    ],
)
def test_another_search_is_refused(sqlite_url: str, changed: dict[str, Any], named: str) -> None:
    def fit(y: Any = Y, **more: Any) -> None:
        kwargs: dict[str, Any] = {
            "estimator": SVC(),
            "param_distributions": DISTRIBUTIONS,
            "n_iter": 3,
            "cv": 4,
            "random_state": 0,
            "storage": sqlite_url,
            "study_name": "search",
            **more,
        }
        StudySearchCV(**kwargs).fit(X, y)

    fit()
    with pytest.raises(StudyChanged) as caught:
        fit(**changed)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [csr_matrix, csr_array, csc_matrix])
def test_data_that_were_used_since_are_the_same_data(sqlite_url: str, kind: Any) -> None:
    """A fit leaves traces in a sparse matrix, and `fit` in an estimator."""
    sparse, estimator = kind(X), SVC()

    def fit(data: Any) -> dict[str, Any]:
        stored = {"storage": sqlite_url, "study_name": "search"}
        search = StudySearchCV(estimator, DISTRIBUTIONS, n_iter=2, random_state=0, **stored)
        return results_of(search.fit(data, Y), skip=())

    first = fit(sparse)
    estimator.fit(X, Y)
    assert fit(sparse) == fit(kind(X)) == first
    sparse.data[5] += 1
    with pytest.raises(StudyChanged, match="data differs"):
        fit(sparse)


def test_how_data_lie_in_memory_does_not_count(sqlite_url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "w.npy", np.ones(len(X)))
    stored = {"storage": sqlite_url, "study_name": "search", "n_iter": 2, "random_state": 0}

    def fit(data: Any, weight: Any) -> dict[str, Any]:
        search = StudySearchCV(SVC(), DISTRIBUTIONS, **stored)
        return results_of(search.fit(data, Y, sample_weight=weight), skip=())

    first = fit(X, np.ones(len(X)))
    assert fit(np.asfortranarray(X), np.ones(len(X))) == first
    mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "w.npy")]
    assert fit(*mapped) == first
    with pytest.raises(StudyChanged, match="fit parameters differs"):
        fit(X, np.full(len(X), 2.0))


def test_a_generator_as_random_state_is_kept_with_the_study(sqlite_url: str) -> None:
    def search(random_state: Any) -> StudySearchCV:
        return StudySearchCV(
            SVC(),
            DISTRIBUTIONS,
            n_iter=3,
            random_state=random_state,
            storage=sqlite_url,
            study_name="search",
        ).fit(X, Y)

    first = search(np.random.RandomState(5))
    moved_on = np.random.RandomState(99)
    assert results_of(search(moved_on)) == results_of(first)
    theirs = RandomizedSearchCV(
        SVC(), DISTRIBUTIONS, n_iter=3, random_state=np.random.RandomState(5)
    ).fit(X, Y)
    assert results_of(theirs) == results_of(first)


def test_a_study_of_another_program_is_refused(sqlite_url: str) -> None:
    storage = open_storage(sqlite_url)
    optuna.create_study(study_name="search", storage=storage.optuna)
    storage.close()
    search = StudySearchCV(SVC(), DISTRIBUTIONS, storage=sqlite_url, study_name="search")
    with pytest.raises(StorageError, match="another program"):
        search.fit(X, Y)


def test_the_verbs_refuse_a_study_that_has_no_study_file(sqlite_url: str) -> None:
    StudySearchCV(SVC(), {"C": [0.1, 1]}, n_iter=2, storage=sqlite_url, study_name="search").fit(
        X, Y
    )
    storage = open_storage(sqlite_url)
    optuna.create_study(study_name="foreign", storage=storage.optuna)
    made = create_study(parse_spec(toy_spec(), where="x"), storage, checkpoints="unused")
    assert study_names(storage) == [made.name]
    for refused in (
        lambda: open_study("search", storage),
        lambda: create_study(
            parse_spec(toy_spec(name="search"), where="x"), storage, checkpoints="unused"
        ),
    ):
        with pytest.raises(StorageError, match="made by StudySearchCV.*by calling fit") as caught:
            refused()
        assert "\n" not in str(caught.value)
    storage.close()


def test_what_cannot_be_compared_is_refused(sqlite_url: str) -> None:
    with Path(os.devnull).open() as file:
        search = StudySearchCV(
            SVC(),
            DISTRIBUTIONS,
            scoring=partial(scored, file=file),
            storage=sqlite_url,
            study_name="search",
        )
        with pytest.raises(SearchError, match="compares its scoring by content") as caught:
            search.fit(X, Y)
    assert "\n" not in str(caught.value)
