"""The classifiers against scikit-learn's own checks and searches, on a slice of the real images."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks

from fmnist_hpo.data import CLASSES, load_training, split
from fmnist_hpo.estimators import ANNClassifier, CNNClassifier
from fmnist_hpo.networks import classifier as network_classifier
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.networks.models import build
from search.sklearn import StudySearchCV

pytestmark = pytest.mark.slow

N, HELD_OUT = 800, 400
QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "random_state": 0, "precision": "fp32"}
ANN = ANNClassifier(hidden_units=(32,), learning_rate=3e-3, **QUICK)
CNN = CNNClassifier(channels=(8, 8), dense_units=16, learning_rate=1e-2, **QUICK)
BOTH = pytest.mark.parametrize("estimator", [ANN, CNN], ids=["ann", "cnn"])

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def train(fashion_dir: Path) -> Arrays:
    data = load_training(fashion_dir)
    return np.array(data.images[:N]), data.labels[:N]


@pytest.fixture(scope="module")
def held_out(fashion_dir: Path) -> Arrays:
    """Training images, too, but others."""
    data = load_training(fashion_dir)
    return np.array(data.images[N : N + HELD_OUT]), data.labels[N : N + HELD_OUT]


# Few and small samples: smaller batches and more epochs than images want. No check is excepted.
TABLES: dict[str, Any] = QUICK | {"epochs": 15, "batch_size": 16, "learning_rate": 1e-2}


@pytest.mark.filterwarnings("default")
@parametrize_with_checks(
    [
        ANNClassifier(hidden_units=32, **TABLES),
        CNNClassifier(channels=8, dense_units=32, **TABLES),
    ]
)
def test_passes_the_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("family", ["ann", "cnn"])
def test_trains_by_the_loop_of_the_studies(fashion_dir: Path, train: Arrays, family: str) -> None:
    params = {
        "batch_norm": True,
        "dropout": 0.2,
        "epochs": 2,
        "optimizer": "sgd",
        "momentum": 0.8,
        "normalization": "standard",
        "flip": True,
        "schedule": "one-cycle",
    }
    layers = {"hidden_units_0": 32, "hidden_units_1": 16}
    ours: Any = ANNClassifier(hidden_units=(32, 16), random_state=3, **params)
    if family == "cnn":
        layers = {"blocks": 1, "channels_0": 8}
        ours = CNNClassifier(channels=[8], random_state=3, **params)
    data = load_training(fashion_dir)
    data = dataclasses.replace(data, images=data.images[:N], labels=data.labels[:N])
    result = training.train(
        *parse(params | layers | {"family": family}),
        data,
        split(data, validation_fraction=0.0),
        seed=check_random_state(3).randint(2**31 - 1),
    )
    torch.manual_seed(7)
    before = torch.get_rng_state()
    ours.fit(*train)
    assert torch.equal(torch.get_rng_state(), before)
    losses = [epoch.train_loss for epoch in result.history]
    assert [epoch.train_loss for epoch in ours.history_] == losses
    for name, tensor in ours._network.state_dict().items():
        assert torch.equal(tensor.cpu(), result.weights[name]), name


@BOTH
def test_learns_whatever_the_shape_and_the_labels(
    estimator: Any, train: Arrays, held_out: Arrays
) -> None:
    images, labels = train
    named = np.array(CLASSES)[labels]
    flat = clone(estimator).fit(images.reshape(N, -1), named)
    assert flat.score(held_out[0], np.array(CLASSES)[held_out[1]]) > 0.6
    assert flat.classes_.tolist() == sorted(CLASSES)
    assert (flat.n_features_in_, flat.image_size_) == (784, (28, 28))
    expected = flat.predict_proba(held_out[0])
    assert expected.shape == (HELD_OUT, 10)
    assert expected.sum(axis=1) == pytest.approx(1)
    for shape in ((N, 28, 28), (N, 1, 28, 28)):
        other = clone(estimator).fit(images.reshape(shape), named)
        assert np.array_equal(other.predict_proba(held_out[0].reshape(-1, 1, 28, 28)), expected)
    two = labels < 2
    binary = clone(estimator).fit(images[two], np.where(labels[two], -1.0, 7.0))
    assert set(binary.predict(held_out[0])) == {-1.0, 7.0}


@BOTH
def test_fractions_are_trained_on_as_grey_values_are(
    estimator: Any, train: Arrays, held_out: Arrays
) -> None:
    # SGD: Adam turns rounding errors of small gradients into steps.
    sgd = clone(estimator).set_params(optimizer="sgd", shift=1, erase=0.2)
    grey = clone(sgd).fit(*train).predict_proba(held_out[0])
    fractions = clone(sgd).fit(train[0] / 255, train[1]).predict_proba(held_out[0] / 255)
    assert np.abs(grey - fractions).max() < 1e-2
    sgd.set_params(normalization="standard")
    grey = clone(sgd).fit(*train).predict_proba(held_out[0])
    scaled = clone(sgd).fit(train[0] * 3.0, train[1]).predict_proba(held_out[0] * 3.0)
    assert np.abs(grey - scaled).max() < 1e-2


def test_the_seed_decides(train: Arrays) -> None:
    first, same = (clone(ANN).fit(*train).predict_proba(train[0]) for _ in range(2))
    assert np.array_equal(first, same)
    other = clone(ANN).set_params(random_state=1).fit(*train).predict_proba(train[0])
    assert not np.array_equal(first, other)


@BOTH
def test_early_stopping_keeps_the_best_epoch(estimator: Any, train: Arrays) -> None:
    stopped = clone(estimator).set_params(
        epochs=60, patience=2, validation_fraction=0.25, learning_rate=1e-2
    )
    stopped.fit(*train)
    curve = [epoch.val_accuracy for epoch in stopped.history_]
    assert len(curve) < 60
    assert len(curve) == stopped.best_epoch_ + 2
    assert curve[stopped.best_epoch_ - 1] == max(curve)
    # The weights are that epoch's: on the part that was held out they score as it did.
    seed = check_random_state(0).randint(2**31 - 1)
    examples = stopped._examples(train[0], train[1])
    part = split(examples, validation_fraction=0.25, seed=seed).validation
    assert stopped.score(train[0][part], train[1][part]) == max(curve)
    # More training goes on with them, so the epochs after that one are no part of it.
    best = stopped.best_epoch_
    stopped.partial_fit(*train)
    assert len(stopped.history_) == stopped.best_epoch_ == best + 1


@BOTH
def test_partial_fit_goes_on(estimator: Any, train: Arrays, held_out: Arrays) -> None:
    images, labels = train
    whole = clone(estimator).set_params(epochs=1).fit(images, labels)
    first = clone(estimator).partial_fit(images, labels, classes=range(10))
    assert np.array_equal(whole.predict_proba(images), first.predict_proba(images))
    kept = pickle.loads(pickle.dumps(first))
    for one in (first, kept):
        for _ in range(3):
            one.partial_fit(images[:400], labels[:400])
    assert np.array_equal(first.predict_proba(images), kept.predict_proba(images))
    assert len(first.history_) == first.best_epoch_ == 4
    second = clone(estimator).partial_fit(images, labels, classes=range(10))
    second.partial_fit(images, labels)  # whose images come in another order than the first call's
    assert whole.partial_fit(images, labels).best_epoch_ == 2
    assert np.array_equal(whole.predict_proba(images), second.predict_proba(images))
    assert first.history_[-1].train_loss < first.history_[0].train_loss
    assert first.score(*held_out) > 0.6
    with pytest.raises(ValueError, match="first call"):
        clone(estimator).partial_fit(images, labels)
    with pytest.raises(ValueError, match=r"labels among .* got \[10\]"):
        first.partial_fit(images, labels + 1)


@BOTH
def test_survives_pickle_and_joblib(estimator: Any, train: Arrays, tmp_path: Path) -> None:
    fitted = clone(estimator).fit(*train)
    joblib.dump(fitted, tmp_path / "fitted")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "fitted")):
        assert np.array_equal(copy.predict_proba(train[0]), fitted.predict_proba(train[0]))
    assert not hasattr(clone(fitted), "classes_")


@BOTH
def test_loading_draws_nothing_from_the_generator_that_a_training_may_use(
    estimator: Any, train: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = clone(estimator).fit(*train)
    expected = fitted.predict_proba(train[0])
    states: list[torch.Tensor] = []

    def watched(*args: Any, **options: Any) -> torch.nn.Module:
        states.append(torch.get_rng_state())
        network = build(*args, **options)
        states.append(torch.get_rng_state())
        return network

    monkeypatch.setattr(network_classifier, "build", watched)
    copy = pickle.loads(pickle.dumps(fitted))
    before, after = states
    assert torch.equal(before, after)
    assert np.array_equal(copy.predict_proba(train[0]), expected)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_fits_are_the_serial_ones(train: Arrays, backend: str) -> None:
    estimator = clone(ANN).set_params(dropout=0.3)
    serial = cross_val_score(estimator, *train, cv=2)
    options = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with joblib.parallel_config(backend, **options):
        parallel = cross_val_score(estimator, *train, cv=2, n_jobs=2)
    assert serial.tolist() == parallel.tolist()
    assert serial.min() > 0.5


def test_in_a_pipeline(train: Arrays, held_out: Arrays) -> None:
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1).astype(float))
    ann = clone(ANN).set_params(normalization="standard", epochs=8)
    table = make_pipeline(flat, StandardScaler(), PCA(50, random_state=0), ann)
    assert table.fit(*train).score(*held_out) > 0.6
    halved = make_pipeline(FunctionTransformer(lambda X: X[:, ::2, ::2]), clone(CNN))
    assert halved.fit(*train).score(*held_out) > 0.5
    assert halved[-1].image_size_ == (14, 14)


SPACE = {"learning_rate": loguniform(1e-4, 1e-1), "hidden_units": [16, (32, 16)]}


def test_in_every_search(train: Arrays, held_out: Arrays, tmp_path: Path) -> None:
    kwargs: dict[str, Any] = {"cv": 2, "random_state": 0}
    theirs = RandomizedSearchCV(ANN, SPACE, n_iter=4, **kwargs).fit(*train)
    stored = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "study_name": "ann"}
    ours = StudySearchCV(ANN, SPACE, n_iter=4, **kwargs, **stored).fit(*train)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    scores = [search.cv_results_["mean_test_score"].tolist() for search in (theirs, ours)]
    assert scores[0] == scores[1]
    assert ours.score(*held_out) > 0.6
    halving = HalvingRandomSearchCV(
        CNN,
        {"channels": randint(2, 9), "batch_norm": [True, False]},
        resource="epochs",
        max_resources=4,
        min_resources=1,
        factor=2,
        **kwargs,
    ).fit(*train)
    assert halving.best_params_["epochs"] == halving.best_estimator_.best_epoch_ == 4
    assert halving.score(*held_out) > 0.5


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"hidden_units": 0}, "need 1 <= hidden_units"),
        ({"layers": 3, "hidden_units": (8, 8)}, "hidden_units_2 is missing"),
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"patience": 0}, "need 1 <= patience"),
        ({"patience": "3"}, "patience must be a whole number, got '3'"),
        ({"patience": 3, "validation_fraction": "0.1"}, "validation_fraction must be a number"),
        ({"patience": 3, "validation_fraction": 0.0}, "at least one sample to validate"),
        ({"patience": 3, "validation_fraction": 0.9999}, "need an image of each class to train"),
        ({"optimizer": "sgd", "learning_rate": 1000.0, "epochs": 5}, "a smaller learning_rate"),
    ],
)
def test_bad_parameters_are_one_line(train: Arrays, params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        clone(ANN).set_params(**params).fit(*train)
    assert "\n" not in str(caught.value)


def test_a_network_that_overflows_in_its_last_step_is_refused(train: Arrays) -> None:
    images, labels = (array[:400] for array in train)
    wild = {"optimizer": "sgd", "learning_rate": 1000.0, "hidden_units": (32, 32, 32)}
    with pytest.raises(ValueError, match="not finite; use a smaller learning_rate"):
        clone(ANN).set_params(**wild, epochs=1, batch_size=133).fit(images, labels)  # four steps


@BOTH
def test_read_only_images_are_fitted_and_predicted_without_a_warning(
    estimator: Any, train: Arrays
) -> None:
    images, labels = (array.copy() for array in train)
    expected = clone(estimator).fit(images, labels).predict_proba(images)
    images.setflags(write=False)
    labels.setflags(write=False)
    fitted = clone(estimator).fit(images, labels)
    assert np.array_equal(fitted.predict_proba(images), expected)
    assert np.array_equal(fitted.partial_fit(images, labels).classes_, np.arange(10))


DIVERGING: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1000.0, "epochs": 5}


@pytest.mark.parametrize("params", [{"learning_rate": -1.0}, DIVERGING])
def test_a_fit_that_fails_leaves_what_was_fitted(train: Arrays, params: dict[str, Any]) -> None:
    images, labels = train
    model = clone(ANN)
    small, others = images[:, :14, :14], np.array(["even", "odd", "none"])[labels % 3]
    for fit in (model.fit, lambda X, y: model.partial_fit(X, y, classes=np.unique(y))):
        model.set_params(**params)
        with pytest.raises(ValueError):
            fit(small, others)
        with pytest.raises(NotFittedError):
            model.predict(images)
    model.set_params(**ANN.get_params()).fit(images, labels)
    before, fitted = model.predict_proba(images), set(vars(model))
    with pytest.raises(ValueError):
        model.set_params(**params).fit(small, others)
    assert set(vars(model)) == fitted
    assert (model.image_size_, model.n_features_in_) == ((28, 28), 784)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    np.testing.assert_array_equal(model.predict_proba(images), before)


def test_bad_images_are_refused(train: Arrays) -> None:
    images, labels = train
    with pytest.raises(ValueError, match="got 1 class"):
        clone(CNN).fit(images, np.zeros(N))
    with pytest.raises(ValueError, match=r"\(n, rows, columns\).* got \(800, 3, 28, 28\)"):
        clone(CNN).fit(np.stack([images] * 3, axis=1), labels)
    with pytest.raises(ValueError, match="0 sample"):
        clone(CNN).fit(images[:0], labels[:0])
    fitted = clone(ANN).fit(images, labels)
    with pytest.raises(ValueError, match=r"need images of \(28, 28\).* got \(14, 56\)"):
        fitted.predict(images.reshape(N, 14, 56))


def test_another_network_does_not_go_on(train: Arrays) -> None:
    fitted = clone(ANN).partial_fit(*train, classes=range(10))
    before = fitted.predict_proba(train[0])
    with pytest.raises(ValueError, match="goes on with the network that it began with"):
        fitted.set_params(hidden_units=7).partial_fit(*train)
    np.testing.assert_array_equal(fitted.predict_proba(train[0]), before)


def test_schedule_free_goes_on_in_partial_fit(train: Arrays) -> None:
    """Each call is one more epoch of the same training: almost as good as `fit` with as many."""
    X, y = train
    params = {"hidden_units": 64, "batch_norm": True, "optimizer": "schedule-free"}
    params |= {"learning_rate": 0.01, "random_state": 0}
    whole = ANNClassifier(epochs=6, report_every=0.5, **params).fit(X, y)
    assert len(whole.history_) == 12
    assert whole.best_epoch_ == 6
    parts = ANNClassifier(**params)
    for _ in range(6):
        parts.partial_fit(X, y, classes=range(10))
    assert parts.history_[-1].train_loss == pytest.approx(whole.history_[-1].train_loss, abs=0.1)
    assert parts.score(X, y) == pytest.approx(whole.score(X, y), abs=0.05)
    # Another optimiser begins with the weights and moments of its own.
    before = parts.history_[-1].train_loss
    parts.set_params(optimizer="adamw", learning_rate=0.001).partial_fit(X, y)
    assert parts.history_[-1].train_loss < before + 0.2


def test_a_pickled_schedule_free_classifier_predicts_the_same(train: Arrays) -> None:
    X, y = train
    fitted = CNNClassifier(
        channels=4, epochs=1, batch_norm=True, optimizer="schedule-free", random_state=0
    ).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_what_is_no_sequence_of_units_is_one_value(train: Arrays) -> None:
    """An array without an axis is a number, and a string is no sequence of its letters."""
    one = ANNClassifier(hidden_units=np.array(4), epochs=1, random_state=0).fit(*train)
    other = ANNClassifier(hidden_units=4, epochs=1, random_state=0).fit(*train)
    assert np.array_equal(one.predict_proba(train[0]), other.predict_proba(train[0]))
    with pytest.raises(ValueError, match="hidden_units.* must be a whole number, got '64'"):
        ANNClassifier(hidden_units="64").fit(*train)
