"""Finds and opens the training images, which all processes of a machine share.

Neither this module nor the training loop opens the test images.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.data.download import download
from fmnist_hpo.data.files import FILES, IMAGES, LABELS, refuse_test_file
from fmnist_hpo.data.idx import cache_directory, locate, open_idx
from fmnist_hpo.errors import InputError

__all__ = ["CLASSES", "Examples", "TrainingData", "expanded", "find", "load_training", "look"]

SYSTEM_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
MOST_PIXELS = 2**20  # of an image that a model takes
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
    """Labelled images on which a network can be trained.

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
    """A training set in files; its images are mapped from a file that all processes share."""

    images: NDArray[np.uint8]


def find(data_dir: Path | None = None) -> Path:
    """Find the directory of Fashion-MNIST, or of the data set that the user named.

    The order is: `data_dir`; FMNIST_HPO_DATA of the environment; the system's copy; the user's
    cache; a download into that cache. A directory that the user named is used or refused, never
    replaced by another. The files are not verified here; `load_training` does that.

    Raises:
        InputError: the path that was named is no directory, or nothing was found and no download
            worked.
    """
    found = look(data_dir)
    if found is not None:
        return found
    return download(_cached())


def look(data_dir: Path | None = None) -> Path | None:
    """Like `find`, but without a download: None when the data set is not on this machine.

    Raises:
        InputError: the path that was named is no directory, or a directory cannot be read.
    """
    try:
        return _look(data_dir)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read: {error.strerror}; check its permissions or name "
            "another directory with --data-dir"
        ) from error


def expanded(path: str | Path) -> Path:
    """A path with the home directory that it names by "~".

    Raises:
        InputError: it names none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path} names no home directory; write the whole path, or quote a name that begins "
            "with ~ as ./~name"
        ) from error


def _look(data_dir: Path | None) -> Path | None:
    named = data_dir or os.environ.get("FMNIST_HPO_DATA")
    if named:
        directory = expanded(named)
        if not directory.is_dir():
            found = "is a file" if directory.exists() else "does not exist"
            raise InputError(
                f"the data directory {directory} {found}; name one that holds {IMAGES}.gz "
                "and its companions, or leave --data-dir and FMNIST_HPO_DATA unset"
            )
        return directory
    if SYSTEM_DIRECTORY.is_dir():
        return SYSTEM_DIRECTORY
    cached = _cached()
    return cached if cached.is_dir() else None


def _cached() -> Path:
    return cache_directory() / "fashion-mnist"


def load_training(directory: Path, *, known: bool = True) -> TrainingData:
    """Open the training images and labels of a directory.

    Args:
        known: whether it must be Fashion-MNIST, verified by its hashes. Otherwise any data set in
            idx format is accepted, and its classes are named "0", "1", ...

    Raises:
        InputError: a file is missing, truncated, altered or one of Fashion-MNIST's test set, images
            and labels do not match, or the images are larger than a bundle's model may take.
    """
    expected: Mapping[str, str] = FILES if known else {}
    images, images_hash = open_idx(locate(directory, IMAGES, known=known), expected.get(IMAGES))
    mapped_labels, labels_hash = open_idx(
        locate(directory, LABELS, known=known), expected.get(LABELS)
    )
    for name, digest in ((IMAGES, images_hash), (LABELS, labels_hash)):
        refuse_test_file(directory / name, digest, "give the data set's own training files")
    if images.ndim != 3 or mapped_labels.ndim != 1 or len(images) != len(mapped_labels):
        raise InputError(
            f"need images (n, rows, columns) and labels (n,) in {directory}, got "
            f"{images.shape} and {mapped_labels.shape}; check that the files belong together"
        )
    if math.prod(images.shape[1:]) > MOST_PIXELS:
        raise InputError(
            f"need images of at most {MOST_PIXELS:,} pixels, got {images.shape[1]}x"
            f"{images.shape[2]} in {directory}; make them smaller"
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
