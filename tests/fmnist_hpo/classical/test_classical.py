"""Classical models on a slice of the real images, against scikit-learn's own cross-validation."""

import dataclasses
import io
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.calibration import fit_temperature
from fmnist_hpo.classical import bundle as classical_bundle
from fmnist_hpo.classical import pipeline as classical
from fmnist_hpo.classical.config import parse
from fmnist_hpo.classical.feature_cache import FeatureCache
from fmnist_hpo.classical_problem import ClassicalProblem
from fmnist_hpo.data import TrainingData, folds, load_training
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import measure
from search.errors import ProblemError

SMALL = {
    "svm": {"C": 5.0, "gamma": 0.02},
    "knn": {"n_neighbors": 5},
    "random_forest": {"n_estimators": 20},
    "gradient_boosting": {"max_iter": 5},
    "xgboost": {"n_estimators": 5},
    "logistic_regression": {"C": 0.1, "max_iter": 200, "tol": 0.01},
}


@pytest.fixture(scope="module")
def data(fashion_dir: Path) -> TrainingData:
    whole = load_training(fashion_dir)
    return dataclasses.replace(whole, images=whole.images[:600], labels=whole.labels[:600])


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def every_fold(data: TrainingData, count: int = 3):
    return folds(data, count, within=np.arange(len(data.labels)), seed=7)


def scores(config, data, cache, seed=1):
    return [
        classical.fit_and_score(config, data, split, seed=seed, cache=cache)
        for split in every_fold(data)
    ]


def test_folds_are_scikit_learns(data: TrainingData) -> None:
    splitter = StratifiedKFold(3, shuffle=True, random_state=7)
    for ours, (train, validation) in zip(
        every_fold(data), splitter.split(data.images, data.labels), strict=True
    ):
        assert np.array_equal(ours.train, train)
        assert np.array_equal(ours.validation, validation)
    assert len({split.hash for split in every_fold(data)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["none", "sqrt", "standard"])
@pytest.mark.parametrize("components", [0, 20])
def test_scores_are_those_of_scikit_learns_cross_validate(
    data: TrainingData, cache: FeatureCache, scaling: str, components: int
) -> None:
    config = parse({"model": "knn", "scaling": scaling, "pca_components": components})
    steps = {"none": [], "sqrt": [FunctionTransformer(np.sqrt)], "standard": [StandardScaler()]}[
        scaling
    ]
    steps += [PCA(components, svd_solver="full")] if components else []
    expected = cross_validate(
        make_pipeline(*steps, KNeighborsClassifier()),
        data.images.reshape(600, -1) / np.float32(255),
        data.labels,
        cv=StratifiedKFold(3, shuffle=True, random_state=7),
        return_train_score=True,
    )
    found = scores(config, data, cache)
    # Another way to the same principal components may move a neighbour or two.
    slack = 0.0 if not components else 0.01
    assert [one.validation for one in found] == pytest.approx(
        list(expected["test_score"]), abs=slack
    )
    assert [one.train for one in found] == pytest.approx(list(expected["train_score"]), abs=slack)


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL)
def test_every_model_learns_and_repeats_itself(
    data: TrainingData, cache: FeatureCache, model: str
) -> None:
    config = parse({"model": model, "pca_components": 30, **SMALL[model]})
    split = every_fold(data)[0]
    first = classical.fit_and_score(config, data, split, seed=3, cache=cache)
    again = classical.fit_and_score(config, data, split, seed=3, cache=cache)
    assert (first.validation, first.train) == (again.validation, again.train)
    assert first.validation > 0.6
    assert first.train >= first.validation


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL)
def test_labels_with_gaps_are_learnt_as_those_without(
    data: TrainingData, cache: FeatureCache, model: str
) -> None:
    config = parse({"model": model, "pca_components": 30, **SMALL[model]})
    gaps = dataclasses.replace(
        data, labels=2 * data.labels + 1, classes=tuple(map(str, range(20))), hashes={"gaps": ""}
    )
    with_gaps, without = (
        classical.fit_and_score(config, each, every_fold(each)[0], seed=3, cache=cache)
        for each in (gaps, data)
    )
    assert with_gaps.validation == without.validation
    assert with_gaps.train == without.train
    packed = classical_bundle.build_model(config, gaps, every_fold(gaps)[0], seed=3, cache=cache)
    files = {**packed.files, "config.json": to_json(packed.config)}
    read = classical_bundle.predictor(Bundle(path=Path("x"), files=files))(gaps.images)
    assert read.shape == (600, 20)
    assert set(read.argmax(axis=1)) <= set(gaps.labels)
    assert np.mean(read.argmax(axis=1) == gaps.labels) > 0.6


def test_a_class_that_is_in_fewer_images_than_folds_is_refused(data: TrainingData) -> None:
    rare = dataclasses.replace(data, labels=np.where(np.arange(600) < 2, 0, data.labels % 9 + 1))
    with pytest.raises(InputError, match="got 2 images of the rarest class"):
        every_fold(rare)
    with pytest.raises(InputError, match="got 0 images of the rarest class"):
        folds(rare, 3, within=np.arange(2, 600))


@pytest.mark.slow
def test_candidates_share_the_components_of_a_fold(data: TrainingData, cache: FeatureCache) -> None:
    few, many = (parse({"model": "knn", "pca_components": k}) for k in (10, 40))
    scores(few, data, cache)
    files = {path: path.stat().st_ino for path in cache.folder.glob("*.npy")}
    assert len(files) == 3
    found = scores(many, data, cache)
    assert files == {path: path.stat().st_ino for path in cache.folder.glob("*.npy")}
    fresh = scores(many, data, FeatureCache(cache.folder / "another"))
    assert [one.validation for one in found] == [one.validation for one in fresh]


@pytest.mark.slow
def test_the_fitted_pipeline_is_the_model_of_the_fold(
    data: TrainingData, cache: FeatureCache
) -> None:
    config = parse({"model": "svm", "scaling": "standard", "pca_components": 30, "C": 10.0})
    split = every_fold(data)[0]
    pipeline = classical.fit(config, data, split, seed=1, cache=cache)
    features = classical.image_features("pixels", data.images[split.validation])
    accuracy = np.mean(pipeline.predict(features) == data.labels[split.validation])
    (fold, *_) = scores(config, data, cache)
    assert accuracy == pytest.approx(fold.validation, abs=0.01)
    values = classical.logits(pipeline, features, classes=10)
    assert np.array_equal(values.argmax(axis=1), pipeline.predict(features))


@pytest.mark.slow
@pytest.mark.parametrize("features", ["hog", "hog_and_pixels"])
def test_hog_is_computed_once_per_data_set(
    data: TrainingData, cache: FeatureCache, features: str
) -> None:
    slice_ = dataclasses.replace(data, images=data.images[:200], labels=data.labels[:200])
    config = parse({"model": "svm", "features": features, "C": 10.0, "pca_components": 40})
    found = [
        classical.fit_and_score(config, slice_, split, seed=1, cache=cache).validation
        for split in every_fold(slice_)
    ]
    assert np.mean(found) > 0.6
    kept = sorted(path.name[:4] for path in cache.folder.glob("*.npy"))
    assert kept == ["hog-", "pca-", "pca-", "pca-"]
    rows = classical.image_features(features, slice_.images[:3])
    assert rows.shape == (3, 1296 if features == "hog" else 1296 + 784)
    assert (rows >= 0).all()


def test_a_class_that_was_not_seen_is_never_named(data: TrainingData, cache: FeatureCache) -> None:
    seen = np.flatnonzero(data.labels != 9)
    model = KNeighborsClassifier().fit(data.images[seen].reshape(len(seen), -1), data.labels[seen])
    values = classical.logits(model, data.images.reshape(600, -1), classes=11)
    assert values.shape == (600, 11)
    assert not np.isin(values.argmax(axis=1), (9, 10)).any()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("model", [KNeighborsClassifier(2), LinearSVC()])
def test_an_images_values_do_not_hang_on_the_others(model: Any) -> None:
    """Class 0 was not seen; of two neighbours of different classes none is more probable."""
    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(60, 5)), draw.integers(1, 4, 60)
    model.fit(features, labels)
    asked = draw.normal(size=(40, 5))
    together = classical.logits(model, asked, classes=4)
    alone = np.concatenate([classical.logits(model, one[None], classes=4) for one in asked])
    np.testing.assert_allclose(together, alone)
    assert (together[:, 1:].min(axis=1) > together[:, 0]).all()


@pytest.mark.parametrize(
    "params",
    [
        {"model": "knn", "n_neighbors": 5},
        {"model": "knn", "n_neighbors": 10, "weights": "distance"},
        {"model": "random_forest", "n_estimators": 20},
    ],
    ids=lambda params: params["model"],
)
def test_a_temperature_calibrates_shares_of_votes_too(
    params: dict[str, object], data: TrainingData, cache: FeatureCache
) -> None:
    """A class that no neighbour names would have a logit of -36 and decide on the temperature."""
    split = every_fold(data)[0]
    pipeline = classical.fit(parse(params), data, split, seed=1, cache=cache)
    features = classical.image_features("pixels", data.images[split.validation])
    labels = data.labels[split.validation]
    shares, values = pipeline.predict_proba(features), classical.logits(pipeline, features, 10)
    assert np.array_equal(values.argmax(axis=1), shares.argmax(axis=1))
    np.testing.assert_allclose(np.exp(values).sum(axis=1), 1)
    fitted, other = np.arange(len(labels)) % 2 == 0, np.arange(len(labels)) % 2 == 1
    temperature = fit_temperature(values[fitted], labels[fitted])
    assert 0.3 < temperature < 3
    raw, after = (
        measure(values[other], labels[other], data.classes, temperature=t).loss
        for t in (1.0, temperature)
    )
    assert after < 1.1 * raw < 2


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "model is missing"),
        ({"model": "svn"}, "did you mean 'svm'"),
        ({"model": "svm", "n_neighbors": 3}, "model svm takes no parameter 'n_neighbors'"),
        ({"model": "svm", "c": 3}, "takes no parameter 'c'"),
        (
            {"model": "svm", "kernel": "linear", "gamma": 0.1},
            'gamma applies to kernel "rbf" and "poly"',
        ),
        ({"model": "svm", "degree": 2}, 'degree applies to kernel "poly" only, got kernel "rbf"'),
        ({"model": "svm", "C": 0}, "need 0 < C"),
        ({"model": "knn", "pca_components": 300}, "need 0 <= pca_components <= 256"),
        ({"model": "knn", "n_neighbors": 2.5}, "n_neighbors must be a whole number"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(params)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_components_are_refused(data: TrainingData, cache: FeatureCache) -> None:
    few = dataclasses.replace(data, images=data.images[:100], labels=data.labels[:100])
    config = parse({"model": "knn", "pca_components": 200})
    with pytest.raises(InputError, match="need pca_components <= "):
        scores(config, few, cache)


@pytest.mark.parametrize(
    ("params", "folds", "said"),
    [
        ({"model": "knn", "n_neighbors": 201}, 3, "need n_neighbors <= 200, .* got 201; lower it"),
        ({"model": "knn", "n_neighbors": 241}, None, "need n_neighbors <= 240, "),
        ({"model": "svm", "pca_components": 201}, 3, "need pca_components <= 200, .* got 201"),
    ],
)
def test_what_the_images_do_not_allow_is_refused_before_a_trial(
    fashion_dir: Path, params: dict[str, Any], folds: int | None, said: str
) -> None:
    problem = ClassicalProblem({"dir": str(fashion_dir), "tune_on": 300}, folds)
    with pytest.raises(ProblemError, match=said) as caught:
        problem.check(params)
    assert "\n" not in str(caught.value)
    name, most = ("n_neighbors", 240 if folds is None else 200)
    problem.check({"model": "knn", name: most, "pca_components": most})
    ClassicalProblem({"dir": "/nowhere"}, folds).check(params)  # whoever needs the data says so


def test_an_overflow_is_a_trial_that_diverged(data: TrainingData, cache: FeatureCache) -> None:
    config = parse({"model": "svm", "kernel": "poly", "degree": 10, "gamma": 1e9, "C": 1e9})
    with pytest.raises(classical.NotFinite, match="not finite"):
        scores(config, data, cache)


def test_an_array_may_be_computed_from_another(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    double = cache.get("b", lambda: 2 * cache.get("a", lambda: np.ones(3)))
    assert double.tolist() == [2, 2, 2]
    assert {path.stem for path in tmp_path.glob("*.npy")} == {"a", "b"}


def _compute(folder: Path, started: "multiprocessing.synchronize.Barrier") -> None:
    started.wait()

    def compute() -> np.ndarray:
        (folder / f"by-{os.getpid()}").touch()
        return np.arange(6.0)

    assert FeatureCache(folder).get("key", compute).sum() == 15


def test_several_processes_compute_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=_compute, args=(tmp_path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("by-*"))) == 1


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, largest_bytes=2500)
    kept = cache.get("a", lambda: np.zeros(100))  # 928 bytes with the header
    cache.get("b", lambda: np.ones(100))
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    os.utime(tmp_path / "b.npy", ns=(2, 2))
    cache.get("a", lambda: pytest.fail("it was there"))
    cache.get("c", lambda: np.ones(100))
    assert {path.stem for path in tmp_path.glob("*.npy")} == {"a", "c"}
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    cache.get("d", lambda: np.ones(100))
    assert kept.sum() == 0  # still mapped
    assert {path.stem for path in tmp_path.glob("*.npy")} == {"c", "d"}


def test_damaged_and_half_written_arrays_are_computed_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.get("a", lambda: np.arange(100.0))
    path = tmp_path / "a.npy"
    archive = io.BytesIO()
    np.savez(archive, a=np.arange(100.0))
    for damaged in (b"", archive.getvalue(), archive.getvalue()[:90], path.read_bytes()[:300]):
        path.write_bytes(damaged)
        assert cache.get("a", lambda: np.arange(100.0))[-1] == 99
    (tmp_path / ".a.npy.left").write_bytes(b"of a killed writer")
    path.unlink()
    assert cache.get("a", lambda: np.arange(100.0))[-1] == 99
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "lock"]
