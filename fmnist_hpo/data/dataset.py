"""The training images: found, verified, split, and held once per machine.

Nothing in here or in the training loop opens the test images; hashing their file is all that
`verify` does with them.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.data.idx import cache_directory, content_hash, locate, open_idx
from fmnist_hpo.errors import InputError

__all__ = [
    "CLASSES",
    "FILES",
    "Examples",
    "Split",
    "TrainingData",
    "find",
    "folds",
    "load_training",
    "look",
    "part",
    "split",
    "verify",
]

SYSTEM_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# SHA-256 of Fashion-MNIST's decompressed files
FILES = {
    IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a network can be trained on.

    images: (n, rows, columns), uint8 grey values or float32 in any unit;
    labels: (n,) int64, each the index of a class.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    hashes: Mapping[str, str]  # file name -> SHA-256 of the decompressed file; of arrays, none

    @property
    def image_size(self) -> tuple[int, int]:
        """(rows, columns)"""
        return self.images.shape[1], self.images.shape[2]


@dataclass(frozen=True, kw_only=True)
class TrainingData(Examples):
    """A training set in files; its images are mapped from one and shared by all processes."""

    images: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which images train and which validate: ascending int64 indices, disjoint."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    hash: str  # SHA-256 over the data's hashes and both lists of indices


def find(data_dir: Path | None = None) -> Path:
    """The directory that holds Fashion-MNIST, or the data set the user named.

    In this order: `data_dir`; the environment's FMNIST_HPO_DATA; the system's copy; the user's
    cache; a download into that cache. A directory the user named is taken or refused, never
    replaced by another. Nothing is verified here: `load_training` does that.

    Raises:
        InputError: the directory named is none, or nothing was found and no download worked.
    """
    found = look(data_dir)
    if found is not None:
        return found
    from fmnist_hpo.data.download import download

    return download(_cached())


def look(data_dir: Path | None = None) -> Path | None:
    """Like `find`, but without a download: None when the data set is not on this machine.

    Raises:
        InputError: the directory named is none, or one cannot be looked at.
    """
    try:
        return _look(data_dir)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read: {error.strerror}; check its permissions or name "
            "another directory with --data-dir"
        ) from error


def _look(data_dir: Path | None) -> Path | None:
    named = data_dir or os.environ.get("FMNIST_HPO_DATA")
    if named:
        directory = Path(named).expanduser()
        if not directory.is_dir():
            raise InputError(
                f"the data directory {directory} does not exist; name one that holds {IMAGES}.gz "
                "and its companions, or leave --data-dir and FMNIST_HPO_DATA unset"
            )
        return directory
    return next((one for one in (SYSTEM_DIRECTORY, _cached()) if one.is_dir()), None)


def _cached() -> Path:
    return cache_directory() / "fashion-mnist"


def verify(directory: Path) -> dict[str, str]:
    """Hash all four files of Fashion-MNIST: {name: SHA-256 of the decompressed file}.

    Raises:
        InputError: a file is missing, truncated or altered.
    """
    return {
        name: content_hash(locate(directory, name), expected) for name, expected in FILES.items()
    }


def load_training(directory: Path, *, known: bool = True) -> TrainingData:
    """Open the training images and labels of a directory.

    known: whether it must be Fashion-MNIST, its hashes compared. Otherwise any data set in idx
    format is taken, its hashes recorded, and its classes called "0", "1", ...

    Raises:
        InputError: a file is missing, truncated or altered, or images and labels do not match.
    """
    expected: Mapping[str, str] = FILES if known else {}
    images, images_hash = open_idx(locate(directory, IMAGES, known=known), expected.get(IMAGES))
    mapped_labels, labels_hash = open_idx(
        locate(directory, LABELS, known=known), expected.get(LABELS)
    )
    if images.ndim != 3 or mapped_labels.ndim != 1 or len(images) != len(mapped_labels):
        raise InputError(
            f"need images (n, rows, columns) and labels (n,) in {directory}, got "
            f"{images.shape} and {mapped_labels.shape}; check that the files belong together"
        )
    labels = mapped_labels.astype(np.int64)
    count = int(labels.max()) + 1
    if count < 2:
        raise InputError(
            f"need at least 2 classes in {directory}, got the label 0 only; check {LABELS}"
        )
    return TrainingData(
        images=images,
        labels=labels,
        classes=CLASSES if known else tuple(str(index) for index in range(count)),
        hashes={IMAGES: images_hash, LABELS: labels_hash},
    )


def part(data: TrainingData, size: int, *, seed: int = 0) -> NDArray[np.int64]:
    """A stratified part of the images: `size` ascending indices, drawn by scikit-learn.

    Raises:
        InputError: fewer images than classes, more than there are, or so many that fewer than one
            of each class would be left out; or a class has one image only.
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

    Another version of scikit-learn may draw others; their hashes tell.

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
    """Split stratified: of each class the same fraction validates, rounded to whole images.

    Drawn from the raw output of Philox, which numpy promises never to change (NEP 19), unlike
    scikit-learn's splitters and numpy's shuffles: the same seed gives the same split under any
    version. A fraction of 0 leaves the validation part empty, to train on everything.

    Args:
        within: ascending indices of the images to split; None for all.

    Raises:
        InputError: the fraction is not in [0, 1), or the seed is negative.
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
        validates[shuffled[: int(validation_fraction * len(members) + 0.5)]] = True
    return _hashed(data, chosen[~validates[chosen]], chosen[validates[chosen]])


def _hashed(data: Examples, train: NDArray[np.int64], validation: NDArray[np.int64]) -> Split:
    digest = hashlib.sha256()
    for name in sorted(data.hashes):
        digest.update(f"{name} {data.hashes[name]}\n".encode())
    for indices in (train, validation):
        digest.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return Split(train=train, validation=validation, hash=digest.hexdigest())
