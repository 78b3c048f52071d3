"""What candidates may consist of: drawn objects, arrays, empty spaces, numbers of other types."""

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.parallel import delayed

from search.errors import NoResult, SearchError, SpecError
from search.sklearn import StudySearchCV
from search.sklearn.candidates import Candidate
from search.sklearn.dimension import make_dimension
from search.sklearn.encoding import decode, encode
from search.sklearn.scheduling import Scheduler

X = np.zeros((8, 1))
MODES: dict[str, dict[str, Any]] = {
    "tpe": {"sampler": "tpe"},
    "timeout": {"timeout": 600.0},
    "pruner": {"pruner": {"name": "threshold", "lower": -1e9}},
    "stored": {"storage": True},
    "stored tpe": {"storage": True, "sampler": "tpe", "pruner": "median"},
}


class Echo(BaseEstimator):
    """Its score is the sum of its parameter."""

    fits: ClassVar[Counter[str]] = Counter()

    def __init__(self, a: Any = 0.0) -> None:
        self.a = a

    def fit(self, X: Any, y: Any = None) -> "Echo":
        Echo.fits["all"] += 1
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return float(np.sum(self.a))


class Careless:
    """Draws with a generator of the process, whatever random_state it is given."""

    def __init__(self, shape: tuple[int, ...] | None = None) -> None:
        self.shape = shape

    def rvs(self, random_state: Any = None) -> Any:
        drawn = np.random.default_rng().random(self.shape)
        return tuple(drawn) if self.shape == (3,) else drawn


def search(url: str, mode: str, space: Any, **more: Any) -> StudySearchCV:
    options = {"n_iter": 4, "cv": 2, "random_state": 0, **MODES[mode], **more}
    if options.get("storage"):
        options |= {"storage": url, "study_name": "search"}
    return StudySearchCV(Echo(), space, **options)


def check_shown_is_evaluated(fitted: StudySearchCV) -> None:
    results = fitted.cv_results_
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        assert float(np.sum(params["a"])) == pytest.approx(float(score), rel=1e-12)
    assert float(np.sum(fitted.best_params_["a"])) == pytest.approx(float(fitted.best_score_))
    assert np.array_equal(fitted.best_estimator_.a, fitted.best_params_["a"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "source",
    [
        Careless(),
        Careless((3,)),
        Careless((2, 2)),
        stats.uniform([0.1, 0.2], 1.0),
        stats.dirichlet([1, 2]),
        stats.rv_discrete(values=([0.5, 2.25], [0.5, 0.5])),
    ],
    ids=["number", "tuple", "matrix", "frozen arrays", "dirichlet", "values that are not whole"],
)
def test_only_evaluated_values_are_shown(sqlite_url: str, mode: str, source: Any) -> None:
    first = search(sqlite_url, mode, {"a": source}).fit(X)
    check_shown_is_evaluated(first)
    if "stored" in mode:
        fits = Echo.fits["all"]
        again = search(sqlite_url, mode, {"a": source}).fit(X)
        assert Echo.fits["all"] == fits + 1  # the refit
        check_shown_is_evaluated(again)
        assert repr(again.cv_results_["params"]) == repr(first.cv_results_["params"])


@pytest.mark.parametrize("mode", ["stored", "stored tpe"])
def test_what_was_begun_goes_on_with_its_own_value(sqlite_url: str, mode: str) -> None:
    check_shown_is_evaluated(search(sqlite_url, mode, {"a": Careless()}, timeout=1e-6).fit(X))
    check_shown_is_evaluated(search(sqlite_url, mode, {"a": Careless()}).fit(X))


class Objects:
    def rvs(self, random_state: Any = None) -> Any:
        return Echo()


def test_a_drawn_object_is_refused_by_a_storage(sqlite_url: str) -> None:
    with pytest.raises(SpecError, match="a value drawn for 'a' cannot be kept") as caught:
        search(sqlite_url, "stored", {"a": Objects()}).fit(X)
    assert "\n" not in str(caught.value)


NATIVE = hnp.scalar_dtypes().map(lambda kind: kind.newbyteorder("="))
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.complex_numbers() | hnp.arrays(NATIVE, hnp.array_shapes(max_side=3))
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(PLAIN, lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(st.text(), v)))
def test_encoded_values_come_back(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:The total space of parameters")
def test_a_search_without_candidates_is_refused_as_scikit_learn_does(
    sqlite_url: str, mode: str
) -> None:
    with pytest.raises(ValueError, match="Were there no candidates"):
        search(sqlite_url, mode, []).fit(X)
    with pytest.raises(SpecError, match="'a' has no values; list at least one"):
        search(sqlite_url, mode, {"a": [], "b": stats.uniform()}).fit(X)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:The total space of parameters")
def test_a_space_without_keys_has_one_point(sqlite_url: str, mode: str) -> None:
    assert search(sqlite_url, mode, {}).fit(X).cv_results_["params"] == [{}]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [Fraction, Decimal, np.float32, np.asarray, int, np.bool_])
def test_scores_are_numbers_of_any_type(sqlite_url: str, mode: str, kind: Any) -> None:
    def scoring(estimator: Any, X: Any, y: Any = None) -> Any:
        return kind(0.5 + estimator.a)

    fitted = search(sqlite_url, mode, {"a": [1, 2, 3, 4]}, scoring=scoring, n_iter=np.int8(4))
    results = fitted.fit(X).cv_results_
    expected = [float(kind(0.5 + params["a"])) for params in results["params"]]
    assert results["mean_test_score"].tolist() == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_score_that_is_no_real_number_is_refused(sqlite_url: str, mode: str) -> None:
    with pytest.raises(SearchError, match="must be a real number"):
        search(sqlite_url, mode, {"a": [1, 2]}, scoring=complex_score, n_iter=2).fit(X)


def complex_score(estimator: Any, X: Any, y: Any = None) -> complex:
    return 1j


class Broken(Echo):
    def fit(self, X: Any, y: Any = None) -> "Broken":
        if self.a > 0.5:
            raise RuntimeError("the cause")
        return self


@pytest.mark.parametrize("pruner", [{"name": "threshold", "lower": 0.2}, "median"])
@pytest.mark.parametrize("stored", [False, True])
def test_a_pruner_does_not_hide_why_all_fits_failed(
    sqlite_url: str, pruner: Any, stored: bool
) -> None:
    mode = "stored" if stored else "tpe"
    broken = search(sqlite_url, mode, {"a": [1, 2]}, pruner=pruner, n_iter=2)
    broken.estimator = Broken()
    for _ in range(2):
        with pytest.raises(ValueError, match="fits failed[^$]*the cause"):
            broken.fit(X)


def test_a_pruner_that_stops_everyone_still_says_what_failed() -> None:
    pruner = {"name": "threshold", "lower": 0.2}
    some = StudySearchCV(Broken(), {"a": [0.1, 1]}, n_iter=2, cv=2, pruner=pruner)
    with (
        pytest.warns(FitFailedWarning, match="the cause"),
        pytest.raises(NoResult, match="stopped"),
    ):
        some.fit(X)


@pytest.mark.parametrize("name", ["", "n" * 600, "a\0b", "a\udcffb", "a/b", "../a", "a b", "é"])
def test_a_name_that_is_no_study_name_is_refused(sqlite_url: str, name: str) -> None:
    with pytest.raises(SpecError, match="name must be 1 to 100 letters") as caught:
        StudySearchCV(Echo(), {"a": [1]}, storage=sqlite_url, study_name=name).fit(X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(SpecError, match="timeout must be a number of seconds > 0"):
        StudySearchCV(Echo(), {"a": [1]}, n_iter=1, timeout=timeout).fit(X)


class OwnUniform(stats.rv_continuous):
    """Bears the name of a family of scipy's."""

    def _ppf(self, q: Any) -> Any:
        return q**2

    def _cdf(self, x: Any) -> Any:
        return np.sqrt(x)


class OnlyQuantiles(stats.rv_continuous):
    """scipy finds no way from it to a value's quantile."""

    def _ppf(self, q: Any) -> Any:
        return 1 + q


def test_a_family_is_known_by_its_class() -> None:
    assert make_dimension("a", OwnUniform(a=0, b=1, name="uniform")(), "a").quantile
    assert make_dimension("a", stats.halfnorm, "a").quantile


@pytest.mark.parametrize("heavy", [stats.zipf(1.1), stats.zipf(2.5), stats.yulesimon(1.5)])
def test_the_quantiles_of_a_heavy_tail_are_not_summed_up(heavy: Any) -> None:
    """Its terms are added one by one; of zipf(1.1) 10**60 lie below the quantile 1 - 1e-6."""
    assert make_dimension("a", heavy, "a").distribution is None  # it is drawn from
    assert make_dimension("a", stats.poisson(3), "a").quantile


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_distribution_need_not_define_more_than_it_is_drawn_by(
    sqlite_url: str, mode: str, frozen: bool
) -> None:
    source = OnlyQuantiles(a=1, b=2, name="mine")
    fitted = search(sqlite_url, mode, {"a": source() if frozen else source}).fit(X)
    check_shown_is_evaluated(fitted)


def test_the_names_of_scorers_are_theirs(sqlite_url: str) -> None:
    """Of some candidates not all folds are run, so that ranks are corrected."""
    scores = dict.fromkeys(
        ("rank", "my_rank_corr", "mean"), lambda estimator, X: estimator.score(X)
    )
    search_ = search(
        sqlite_url, "pruner", {"a": [0.1, 0.2, 0.3]}, scoring=scores, refit="rank", cv=3,
        n_iter=3, pruner={"name": "threshold", "lower": 0.25},
    )  # fmt: skip
    results = search_.fit(X).cv_results_
    assert "pruner" in results["stopped_by"]
    for name in scores:
        np.testing.assert_array_equal(results[f"rank_test_{name}"], results["rank_test_rank"])


class Taken:
    """Candidates of which the first is taken from this process, and comes back to it."""

    def __init__(self) -> None:
        self.candidate = Candidate(index=0, params={"a": 0.5})
        self.waits = [self.candidate, Candidate(index=0, params={"a": 0.5})]
        self.ended: list[Candidate] = []

    def claim(self) -> Candidate | None:
        return self.waits.pop(0) if self.waits else None

    def record(self, candidate: Candidate, fold: int, result: Any) -> bool:
        if candidate is self.candidate:
            return False
        candidate.folds[fold] = result
        return True

    def seen(self) -> list[Candidate]:
        return [] if self.waits else [Candidate(index=0, params={"a": 0.5}, folds={0: {}, 1: {}})]

    def pending(self) -> bool:
        return bool(self.waits)

    def close(self) -> None: ...


def test_a_candidate_that_was_taken_from_us_may_come_back() -> None:
    taken = Taken()
    scheduler = Scheduler(
        lambda fits: taken, [{}], [""], n_splits=2, n_jobs=None, pre_dispatch=1, prunes=False,
        timeout=None,
    )  # type: ignore[arg-type] # fmt: skip
    assert len(scheduler(delayed(dict)(test_scores=0.5) for _ in range(2))) == 2
    assert taken.waits == []


@pytest.mark.parametrize("best", [-1e18, -1e150])
def test_an_incomplete_candidate_is_behind_a_complete_one_however_bad(best: float) -> None:
    pruner = {"name": "threshold", "upper": 1.0}
    search = StudySearchCV(Echo(), {"a": [2.0, best]}, n_iter=2, cv=2, pruner=pruner, refit=False)
    results = search.fit(X).cv_results_
    complete = results["stopped_by"] == ""
    assert complete.sum() == 1
    assert results["rank_test_score"].tolist() == np.where(complete, 1, 2).tolist()
