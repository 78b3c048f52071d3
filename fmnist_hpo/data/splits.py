"""Splits the training images into those that train and those that validate."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.data.dataset import Examples, TrainingData
from fmnist_hpo.errors import InputError

__all__ = ["Split", "folds", "part", "split"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which images train and which validate: ascending int64 indices, disjoint."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    hash: str  # SHA-256 over the data's hashes and both lists of indices


def part(data: TrainingData, size: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Draw a stratified sample of the images: `size` ascending indices, by scikit-learn.

    Raises:
        InputError: `size` is less than the number of classes, more than the number of images, or
            would leave out fewer images than there are classes; or a class has one image only.
    """
    every = np.arange(len(data.labels), dtype=np.int64)
    if size == len(every):
        return every
    from sklearn.model_selection import train_test_split

    names, counts = np.unique(data.labels, return_counts=True)
    if counts.min() < 2:
        raise InputError(
            f"need at least 2 images of each class to draw a part of them, got 1 of class "
            f"{data.classes[names[counts.argmin()]]!r}; use all {len(every):,} images"
        )
    classes = len(names)
    if not classes <= size <= len(every) - classes:
        raise InputError(
            f"need a part of {classes} to {len(every) - classes:,} images, or all {len(every):,}, "
            f"got {size:,}; choose a number in this range"
        )
    chosen, _ = train_test_split(every, train_size=size, random_state=seed, stratify=data.labels)
    return np.sort(chosen)


def folds(
    data: TrainingData, count: int, *, within: NDArray[np.int64], seed: int = 0
) -> tuple[Split, ...]:
    """Stratified folds of the images `within`: scikit-learn's StratifiedKFold, shuffled by `seed`.

    Another version of scikit-learn may draw other folds, which their hashes show.

    Args:
        within: ascending indices of images.

    Raises:
        InputError: a class has fewer images than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = data.labels[within]
    fewest = int(np.bincount(labels, minlength=len(data.classes))[np.unique(data.labels)].min())
    if fewest < count:
        raise InputError(
            f"need at least one image of each class in each of {count} folds, got {fewest} images "
            "of the rarest class; lower folds, or raise tune_on"
        )
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return tuple(
        _hashed(data, within[train], within[validation])
        for train, validation in splitter.split(within, labels)
    )


def split(
    data: Examples,
    *,
    validation_fraction: float = 0.2,
    seed: int = 0,
    within: NDArray[np.int64] | None = None,
) -> Split:
    """Stratified split: the same fraction of each class validates, rounded to whole images.

    The same seed gives the same split under any version of numpy: the order comes from the raw
    output of Philox, which numpy promises never to change (NEP 19), unlike its shuffles and
    scikit-learn's splitters. A fraction of 0 leaves the validation part empty.

    Args:
        within: ascending indices of the images to split; None for all.

    Raises:
        InputError: the fraction is not in [0, 1), the seed is negative, or all images of a class
            would validate.
    """
    if not 0 <= validation_fraction < 1:
        raise InputError(
            f"need 0 <= validation_fraction < 1, got {validation_fraction}; the default is 0.2"
        )
    if seed < 0:
        raise InputError(f"need a split seed >= 0, got {seed}; the default is 0")
    chosen = np.arange(len(data.labels), dtype=np.int64) if within is None else within
    keys = np.random.Philox(np.random.SeedSequence(seed)).random_raw(len(data.labels))
    validates = np.zeros(len(data.labels), dtype=bool)
    for label in range(len(data.classes)):
        members = chosen[data.labels[chosen] == label]
        shuffled = members[np.argsort(keys[members], kind="stable")]
        held_out = int(validation_fraction * len(members) + 0.5)
        if 0 < held_out == len(members):
            raise InputError(
                f"need an image of each class to train, got none of class {data.classes[label]!r} "
                f"with validation_fraction = {validation_fraction}; lower it, or use more images"
            )
        validates[shuffled[:held_out]] = True
    return _hashed(data, chosen[~validates[chosen]], chosen[validates[chosen]])


def _hashed(data: Examples, train: NDArray[np.int64], validation: NDArray[np.int64]) -> Split:
    digest = hashlib.sha256()
    for name in sorted(data.hashes):
        digest.update(f"{name} {data.hashes[name]}\n".encode())
    for indices in (train, validation):
        digest.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return Split(train=train, validation=validation, hash=digest.hexdigest())
