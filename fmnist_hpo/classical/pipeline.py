"""Classical models: features, scaling, PCA and an estimator, fitted with scikit-learn.

Results are deterministic given seed, threads, versions and machine. The inputs of the estimator are
computed once per fold and cached (`FeatureCache`), so that trials which differ in the estimator
alone share them.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from fmnist_hpo.classical.config import LARGEST_PCA, ClassicalConfig
from fmnist_hpo.classical.feature_cache import FeatureCache
from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.environment import threads
from fmnist_hpo.errors import InputError

__all__ = [
    "HOG",
    "FoldScores",
    "NotFinite",
    "check_components",
    "fit",
    "fit_and_score",
    "image_features",
    "logits",
]

#: Arguments of skimage.feature.hog (Dalal & Triggs 2005). The cells are smaller than its default
#: of 8x8 pixels, as the images are small.
HOG: Mapping[str, Any] = {
    "orientations": 9,
    "pixels_per_cell": (4, 4),
    "cells_per_block": (2, 2),
    "block_norm": "L2-Hys",
}
PIXEL_WEIGHT = np.float32(0.5)  # factor of the pixels beside HOG
_CODE = "1"  # part of every cache key; to be raised when the features below change


class NotFinite(Exception):
    """Numbers of a model overflowed in its fit."""


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """Accuracies and times of one model on one split."""

    validation: float  # accuracy, 0 to 1
    train: float  # accuracy, 0 to 1
    fit_seconds: float  # of the estimator alone; the features are shared between trials
    score_seconds: float  # of both parts


def fit_and_score(
    config: ClassicalConfig, data: TrainingData, split: Split, *, seed: int, cache: FeatureCache
) -> FoldScores:
    """Fit a model on a split's training part and score it on both parts.

    Raises:
        InputError: the images are too small for HOG, or too few for the number of components.
        NotFinite: the fit overflowed.
    """
    with threadpool_limits(threads()):
        train, validation = _matrices(config, data, split, cache)
        labels = data.labels
        started = time.perf_counter()
        try:
            model = _model(config, seed, labels[split.train]).fit(train, labels[split.train])
        except ValueError as error:
            if "not finite" not in str(error):
                raise
            raise NotFinite(str(error)) from error
        fitted = time.perf_counter()
        classes = len(data.classes)
        validation_score = _accuracy(model, validation, labels[split.validation], classes)
        train_score = _accuracy(model, train, labels[split.train], classes)
        return FoldScores(
            validation=validation_score,
            train=train_score,
            fit_seconds=fitted - started,
            score_seconds=time.perf_counter() - fitted,
        )


def fit(
    config: ClassicalConfig, data: TrainingData, split: Split, *, seed: int, cache: FeatureCache
) -> Pipeline:
    """Fit the whole pipeline on a split's training part.

    The pipeline maps `image_features` (n, d) to class indices (n,).

    Raises:
        InputError: see `fit_and_score`.
    """
    with threadpool_limits(threads()):
        steps = _preparation(config, config.pca_components)
        labels = data.labels[split.train]
        pipeline = Pipeline([*steps, ("model", _model(config, seed, labels))])
        pipeline.fit(_features(config, data, split.train, cache), labels)
    return pipeline


def logits(model: BaseEstimator, features: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Log-probabilities of each class, or decision values of a model without probabilities.

    The shares of neighbours or trees that name a class count with one vote more, which all classes
    share (Laplace 1814, the rule of succession): without it a class that none of them names would
    be impossible.

    A class that is missing from the model's training data gets a value below those of all others:
    of an image, whatever the other images are.

    Args:
        features: (n, d), as the model was fitted on.
        classes: number of classes, including missing ones.

    Returns:
        (n, classes), float64.
    """
    with threadpool_limits(threads()):
        least = np.finfo(np.float64).eps
        if hasattr(model, "predict_proba"):
            shares, votes = model.predict_proba(features), _votes(model)
            if votes is not None:
                shares = (votes * shares + 1 / shares.shape[1]) / (votes + 1)
            found = np.log(np.maximum(shares, least))
            missing = np.log(least) - 1
        else:
            found = model.decision_function(features)
            if found.ndim == 1:  # two classes: one value, positive for the second
                found = np.stack([-found, found], axis=1) / 2
            missing = found.min(axis=1, keepdims=True) - 1
    if found.shape[1] == classes:
        return np.asarray(found, dtype=np.float64)
    outputs = np.empty((len(features), classes))
    outputs[:] = missing
    outputs[:, model.classes_] = found
    return outputs


def _votes(model: BaseEstimator) -> int | None:
    """How many votes a model's probabilities are shares of; None where they are no shares."""
    last = model[-1] if isinstance(model, Pipeline) else model
    if isinstance(last, KNeighborsClassifier):
        return int(last.n_neighbors)
    return int(last.n_estimators) if isinstance(last, RandomForestClassifier) else None


def image_features(kind: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of images.

    Args:
        kind: "pixels": grey values scaled to [0, 1]; "hog": histograms of oriented gradients, see
            `HOG`; "hog_and_pixels": both, as HOG does not contain the brightness.
        images: (n, rows, columns), 0 to 255.

    Returns:
        (n, d), none of them negative.

    Raises:
        InputError: the images are too small for HOG.
    """
    return _pixels(images) if kind == "pixels" else _with_hog(kind, _hog(images), images)


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _hog(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    from skimage.feature import hog

    cell, block = HOG["pixels_per_cell"][0], HOG["cells_per_block"][0]
    if min(images.shape[1:]) < cell * block:
        raise InputError(
            f"HOG needs images of at least {cell * block}x{cell * block} pixels, got "
            f'{images.shape[1]}x{images.shape[2]}; use features = "pixels"'
        )
    return np.stack([hog(image, **HOG) for image in images]).astype(np.float32)


def _with_hog(
    kind: str, histograms: NDArray[np.float32], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    if kind == "hog":
        return histograms
    # The root increases the contrast of dark areas. The weight of 1/2 brings the variance of the
    # pixels near that of the histograms.
    return np.concatenate([histograms, PIXEL_WEIGHT * np.sqrt(_pixels(images))], axis=1)


def _accuracy(
    model: BaseEstimator, features: NDArray[Any], labels: NDArray[np.int64], classes: int
) -> float:
    return float(np.mean(logits(model, features, classes).argmax(axis=1) == labels))


def _matrices(
    config: ClassicalConfig, data: TrainingData, split: Split, cache: FeatureCache
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The inputs of the estimator: (training images, d) and (validation images, d)."""

    def features(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return _features(config, data, indices, cache)

    if config.pca_components == 0:
        train, validation = features(split.train), features(split.validation)
        for _, step in _preparation(config, 0):
            train, validation = step.fit_transform(train), step.transform(validation)
        return train, validation

    def project() -> NDArray[np.float32]:
        train = features(split.train)
        preparation = Pipeline(_preparation(config, min(LARGEST_PCA, *train.shape)))
        projected = preparation.fit_transform(train)
        return np.concatenate([projected, preparation.transform(features(split.validation))])

    both = cache.get(_key("pca", config.features, config.scaling, split.hash), project)
    _check_components(config, both.shape[1])
    both = np.ascontiguousarray(both[:, : config.pca_components])
    return both[: len(split.train)], both[len(split.train) :]


def check_components(config: ClassicalConfig, data: TrainingData, images: int) -> None:
    """Raise `InputError` unless PCA can have so many components of so many training images."""
    _check_components(config, min(images, image_features(config.features, data.images[:1]).size))


def _check_components(config: ClassicalConfig, largest: int) -> None:
    if config.pca_components > largest:
        raise InputError(
            f"need pca_components <= {largest}, the fewer of training images and features, got "
            f"{config.pca_components}; lower it"
        )


def _features(
    config: ClassicalConfig, data: TrainingData, indices: NDArray[np.int64], cache: FeatureCache
) -> NDArray[np.float32]:
    """The features of some images: (len(indices), d).

    HOG is cached for the whole data set. Pixels are not: converting them is cheaper than reading.
    """
    if config.features == "pixels":
        return _pixels(data.images[indices])
    key = _key("hog", sorted(data.hashes.items()), data.images.shape)
    histograms = cache.get(key, lambda: _hog(data.images))
    return _with_hog(config.features, histograms[indices], data.images[indices])


def _preparation(config: ClassicalConfig, components: int) -> list[tuple[str, BaseEstimator]]:
    steps: list[tuple[str, BaseEstimator]] = []
    if config.scaling == "sqrt":
        steps.append(("scaling", FunctionTransformer(np.sqrt)))
    if config.scaling == "standard":
        steps.append(("scaling", StandardScaler()))
    if components:
        # This solver is exact and needs no seed: the first k components do not depend on their
        # number.
        steps.append(("pca", PCA(n_components=components, svd_solver="covariance_eigh")))
    return steps


def _key(*parts: Any) -> str:
    """A cache key: a hash of everything that an array depends on."""
    versions = [metadata.version(name) for name in ("numpy", "scikit-learn", "scikit-image")]
    content = json.dumps([_CODE, dict(HOG), versions, parts])
    return f"{parts[0]}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def _model(config: ClassicalConfig, seed: int, labels: NDArray[np.int64]) -> BaseEstimator:
    """The estimator for these labels, not fitted; it uses `threads()` threads."""
    own, state = dict(config.params), seed % 2**32  # the range that scikit-learn accepts
    match config.model:
        case "svm":
            # With break_ties, `predict` returns the class with the largest decision value.
            return SVC(cache_size=500, break_ties=True, random_state=state, **own)
        case "knn":
            return KNeighborsClassifier(algorithm="brute", n_jobs=threads(), **own)
        case "random_forest":
            return RandomForestClassifier(n_jobs=threads(), random_state=state, **own)
        case "gradient_boosting":
            return HistGradientBoostingClassifier(early_stopping=False, random_state=state, **own)
        case "logistic_regression":
            return LogisticRegression(random_state=state, **own)
        case _:
            from xgboost import XGBClassifier

            model = XGBClassifier(tree_method="hist", n_jobs=threads(), random_state=state, **own)
            if len(np.unique(labels)) == labels.max() + 1:
                return model
            # XGBoost requires labels 0, 1, 2, ... without gaps; VotingClassifier encodes them.
            return VotingClassifier([("xgboost", model)], voting="soft")
