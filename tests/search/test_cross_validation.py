"""Cross-validated studies: fold by fold, resumed, pruned, and in scikit-learn's shape."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from toy import toy_spec

import search
from search import Fold, FoldContext, SpecError, TrialPruned, TrialStopped, cross_validate
from search.spec import parse_spec
from search.study.views.cv_results import cv_results, write_cv_results

SPEC = f"""
problem = "{__name__}:Digits"
name = "digits"
metric = "accuracy"
direction = "maximize"
mode = "cross-validation"
folds = 3
"""
GRID = 'sampler = { name = "grid" }\nspace = { alpha = { choice = [1e-9, 1e-4, 1e-2, 1.0] } }\n'


class Digits:
    """Naive Bayes on the digits."""

    def __init__(self, settings, folds: int | None = None) -> None:
        self.folds = folds
        self.images, self.labels = load_digits(return_X_y=True)

    def check(self, params) -> None: ...
    def fingerprint(self):
        return {"images": "digits"}

    def environment(self):
        return {"numpy": np.__version__}

    def run(self, run: search.TrialContext) -> float:
        assert self.folds is not None
        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=0)
        splits = list(splitter.split(self.images, self.labels))

        def fit(fold: FoldContext) -> Fold:
            train, test = splits[fold.index]
            model = GaussianNB(var_smoothing=fold.params["alpha"])
            model.fit(self.images[train], self.labels[train])
            return Fold(
                fold_score=model.score(self.images[test], self.labels[test]),
                fold_train_score=model.score(self.images[train], self.labels[train]),
                fit_seconds=0.25,
                score_seconds=0.5,
            )

        return cross_validate(run, self.folds, fit)


@pytest.fixture
def run_study(tmp_path: Path):
    opened = []

    def run(text: str):
        study = search.create(text, storage=f"sqlite:///{tmp_path}/digits.db")
        opened.append(study)
        search.work(study)
        return study

    yield run
    for study in opened:
        study.storage.close()


def test_cv_results_is_that_of_scikit_learns_grid_search(run_study) -> None:
    study = run_study(SPEC + GRID)
    alphas = [trial.params["alpha"] for trial in study.trials]
    assert sorted(alphas) == [1e-9, 1e-4, 1e-2, 1.0]
    oracle = GridSearchCV(
        GaussianNB(),
        [{"var_smoothing": [alpha]} for alpha in alphas],
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        return_train_score=True,
    ).fit(*load_digits(return_X_y=True))
    out = io.StringIO(newline="")
    write_cv_results(study, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    expected = oracle.cv_results_
    names = [name.replace("var_smoothing", "alpha") for name in expected]
    assert list(rows[0]) == names
    assert [json.loads(row["params"])["alpha"] for row in rows] == alphas
    for name, theirs in zip(names, expected.values(), strict=True):
        ours = [row[name] for row in rows]
        if name.endswith("_score"):
            assert [float(value) for value in ours] == pytest.approx(list(theirs), abs=1e-12)
        elif name.endswith("fit_time"):
            assert ours == ["0.25" if name.startswith("mean") else "0.0"] * 4
    assert study.best.params["alpha"] == oracle.best_params_["var_smoothing"]


def test_pruned_candidates_lack_folds_and_share_the_last_rank(run_study) -> None:
    study = run_study(
        SPEC
        + 'pruner = { name = "threshold", lower = 0.8 }\n'
        + "[[trials]]\nname = 'good'\nparams = { alpha = 1e-2 }\n"
        + "[[trials]]\nname = 'poor'\nparams = { alpha = 1e9 }\n"
        + "[[trials]]\nname = 'good too'\nparams = { alpha = 1e-1 }\n"
        + "[[trials]]\nname = 'poor too'\nparams = { alpha = 1e8 }\n"
    )
    results = cv_results(study)
    assert results["split0_test_score"][1] == results["mean_test_score"][1]
    assert results["std_test_score"][1] == 0
    assert [results[f"split{fold}_test_score"][1] for fold in (1, 2)] == [None, None]
    assert results["split2_train_score"][3] is None
    assert results["rank_test_score"][1::2] == [3, 3]
    assert sorted(results["rank_test_score"][0::2]) == [1, 2]


class Undefined(Digits):
    """Scores that are not defined for a fold, as a metric of a class that it lacks."""

    def run(self, run: search.TrialContext) -> float:
        return cross_validate(
            run,
            3,
            lambda fold: Fold(
                fold_score=0.5,
                fold_train_score=math.nan if fold.index == 1 else 1.0,
                fit_seconds=0.25,
                score_seconds=0.5,
            ),
        )


@pytest.mark.slow
def test_a_score_that_is_not_defined_makes_its_means_so(run_study) -> None:
    results = cv_results(run_study(SPEC.replace(":Digits", ":Undefined") + GRID))
    assert results["mean_test_score"] == [0.5] * 4
    assert results["split0_train_score"] == [1.0] * 4
    for name in ("split1_train_score", "mean_train_score", "std_train_score"):
        assert all(math.isnan(value) for value in results[name])


def test_a_holdout_study_has_no_cv_results(make_study) -> None:
    with pytest.raises(search.SearchError, match="is not cross-validated"):
        cv_results(make_study())


def test_a_problem_without_folds_is_refused(sqlite_url: str) -> None:
    with pytest.raises(search.ProblemError, match="'toy:Toy' does not cross-validate"):
        search.create('mode = "cross-validation"\n' + toy_text(), storage=sqlite_url)


def toy_text() -> str:
    return toy_spec(name="folded")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('mode = "crossvalidation"', "mode must be holdout or cross-validation"),
        ("folds = 5", 'folds = 5 goes with mode = "cross-validation" only'),
        ('mode = "cross-validation"\nfolds = 1', "folds must be a whole number >= 2, got 1"),
        ('mode = "cross-validation"\nfolds = 2.5', "folds must be a whole number >= 2, got 2.5"),
    ],
)
def test_wrong_modes_are_named(lines: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(lines + "\n" + toy_text(), where="x.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.toml: ")


def test_the_mode_has_defaults() -> None:
    assert parse_spec(toy_text(), where="").folds is None
    assert parse_spec('mode = "cross-validation"\n' + toy_text(), where="").folds == 5


class Memory:
    """A `TrialContext` in memory, that may be told to stop or to prune at a step."""

    seed = 3

    def __init__(self, saved: bytes | None = None, *, stop: int = 99, prune: int = 99) -> None:
        self.params = {"x": 1.0}
        self.saved, self.stop, self.prune = saved, stop, prune
        self.reports: list[tuple[int, float, dict[str, float]]] = []

    @property
    def should_stop(self) -> bool:
        return len(self.reports) >= self.stop

    def load_checkpoint(self) -> bytes | None:
        return self.saved

    def save_checkpoint(self, data: bytes) -> None:
        self.saved = data

    def report(self, step: int, value: float, **curves: float) -> None:
        self.reports.append((step, value, curves))
        if step >= self.prune:
            raise TrialPruned
        if self.should_stop:
            raise TrialStopped


def fit(fold: FoldContext) -> Fold:
    score = (0.5, 0.75, 1.0, 0.25)[fold.index]
    return Fold(fold_score=score, fold_train_score=1.0, fit_seconds=2.0, score_seconds=1.0)


def test_means_are_reported_and_the_mean_is_the_value() -> None:
    run = Memory()
    assert cross_validate(run, 4, fit) == 0.625
    assert [(step, value) for step, value, _ in run.reports] == [
        (1, 0.5), (2, 0.625), (3, 0.75), (4, 0.625),
    ]  # fmt: skip
    assert run.reports[2][2] == {
        "fold_score": 1.0, "fold_train_score": 1.0, "fit_seconds": 2.0, "score_seconds": 1.0,
    }  # fmt: skip


def test_a_retry_goes_on_at_the_next_fold() -> None:
    first = Memory(stop=2)
    with pytest.raises(TrialStopped):
        cross_validate(first, 4, fit)
    second, fitted = Memory(first.saved), []
    value = cross_validate(second, 4, lambda fold: (fitted.append(fold.index), fit(fold))[1])
    assert (value, fitted) == (0.625, [2, 3])
    whole = Memory()
    cross_validate(whole, 4, fit)
    assert second.reports == whole.reports


def test_a_retry_goes_on_within_a_fold() -> None:
    def stopped(fold: FoldContext) -> Fold:
        if fold.index == 1:
            fold.save_checkpoint(b"half\nway")
            raise TrialStopped
        return fit(fold)

    first = Memory()
    with pytest.raises(TrialStopped):
        cross_validate(first, 2, stopped)
    found = []
    second = Memory(first.saved)
    cross_validate(second, 3, lambda fold: (found.append(fold.load_checkpoint()), fit(fold))[1])
    assert found == [b"half\nway", None]  # of fold 1, and none of the next


def test_pruning_passes_between_folds() -> None:
    run = Memory(prune=2)
    with pytest.raises(TrialPruned):
        cross_validate(run, 4, fit)
    assert len(run.reports) == 2
