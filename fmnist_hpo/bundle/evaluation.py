"""The sealed test set: the one module that opens its images.

Measuring and recording are two steps. `evaluate` measures and shows nothing. Its caller records the
result in the study's storage, and only then shows it and calls `attach`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.card import write_card
from fmnist_hpo.bundle.fields import to_json
from fmnist_hpo.bundle.figures import Sample, choose_samples, draw_confusion, draw_samples
from fmnist_hpo.bundle.predictions import FILE, Predictions
from fmnist_hpo.bundle.records import SealedMetrics
from fmnist_hpo.data import FILES
from fmnist_hpo.data.files import IMAGES, LABELS
from fmnist_hpo.data.idx import content_hash, locate, open_idx, present
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import Metrics, measure

__all__ = ["Evaluation", "attach", "evaluate", "missing_file"]

TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One measurement of the test set."""

    metrics: Metrics
    hashes: Mapping[str, str]  # test file -> SHA-256 of its decompressed content
    predictions: Predictions | None = None  # of every image; not in the JSON
    samples: tuple[Sample, ...] = ()  # for the figure; not in the JSON

    def to_json(self) -> dict[str, Any]:
        """Everything but predictions and samples, as JSON values; `from_json` reads it back."""
        return {**self.metrics.to_json(), "hashes": dict(self.hashes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(metrics=Metrics.from_json(value), hashes=dict(value["hashes"]))


def missing_file(directory: Path) -> str | None:
    """The first file of the test set that a data set's directory lacks; none of them is opened."""
    names = (TEST_IMAGES, TEST_LABELS)
    return next((name for name in names if present(directory, name) is None), None)


def evaluate(bundle: Bundle, directory: Path) -> Evaluation:
    """Measure a bundle on the test set of the data set it was trained on.

    Args:
        directory: holds the data set, as `data.find` gives it.

    Raises:
        InputError: a file is missing or altered, or belongs to another data set.
    """
    from fmnist_hpo.bundle.kinds import logits

    images, labels, hashes = _load_test(bundle, directory)
    outputs = logits(bundle, images)
    temperature = bundle.config.readout.temperature
    predictions = Predictions.of(outputs, labels, temperature)
    return Evaluation(
        metrics=measure(outputs, labels, bundle.config.classes, temperature=temperature),
        hashes=hashes,
        predictions=predictions,
        samples=choose_samples(
            images,
            predictions,
            bundle.config.classes,
            has_probabilities=bundle.config.has_probabilities,
        ),
    )


def attach(bundle: Bundle, evaluation: Evaluation, count: int, *, remark: str = "") -> Bundle:
    """Write an evaluation into a bundle, in one step: metrics, predictions, figures and card.

    Args:
        count: how many times the study's test set has been measured, this one included.
        remark: what else the card says about the measurement.

    Raises:
        InputError: the disk is full or not writable, or another process has replaced the bundle;
            what is there is as it was then.
    """
    test = SealedMetrics(
        evaluations=count, metrics=evaluation.metrics, hashes=evaluation.hashes, remark=remark
    )
    metrics = replace(bundle.metrics, test=test)
    provenance = bundle.provenance
    title = f"{provenance.study}, {provenance.what}: test set"
    files = dict(bundle.files)
    for name in (FILE, "figures/samples.png"):  # an evaluation read from storage brings neither
        files.pop(name, None)
    files["metrics.json"] = to_json(metrics.to_json())
    files["figures/confusion.png"] = draw_confusion(
        evaluation.metrics, f"{title}, {evaluation.metrics.n:,} images"
    )
    if evaluation.predictions is not None:
        files[FILE] = evaluation.predictions.to_bytes()
    if evaluation.samples:
        files["figures/samples.png"] = draw_samples(evaluation.samples, title)
    files["MODEL_CARD.md"] = write_card(bundle.config, metrics, provenance, files.keys())
    return Bundle.write(bundle.path, files, over=bundle)


def recount(bundle: Bundle, count: int, *, remark: str) -> Bundle:
    """Correct what a measured bundle says of how often the study's test set was measured.

    Args:
        count, remark: as in `attach`.

    Raises:
        InputError: as in `attach`.
    """
    assert bundle.metrics.test is not None
    test = replace(bundle.metrics.test, evaluations=count, remark=remark)
    metrics = replace(bundle.metrics, test=test)
    files = {**bundle.files, "metrics.json": to_json(metrics.to_json())}
    files["MODEL_CARD.md"] = write_card(bundle.config, metrics, bundle.provenance, files.keys())
    return Bundle.write(bundle.path, files, over=bundle)


def _load_test(
    bundle: Bundle, directory: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, str]]:
    """Images (n, rows, columns), labels (n,) and hashes of the test set that fits the bundle."""
    trained_on = bundle.provenance.data_hashes
    known = dict(trained_on) == {name: FILES[name] for name in (IMAGES, LABELS)}
    if not known:  # a person's own data set: it is the bundle's when its training files are
        for name, digest in trained_on.items():
            content_hash(locate(directory, name, known=False), digest)

    def opened(name: str) -> tuple[NDArray[np.uint8], str]:
        return open_idx(locate(directory, name, known=known), FILES[name] if known else None)

    images, images_hash = opened(TEST_IMAGES)
    labels, labels_hash = opened(TEST_LABELS)
    if images.shape != (*labels.shape, *bundle.config.image_size):
        rows, columns = bundle.config.image_size
        raise InputError(
            f"need test images (n, {rows}, {columns}) and labels (n,) in {directory}, got "
            f"{images.shape} and {labels.shape}; check that the files belong together"
        )
    if labels.max() >= len(bundle.config.classes):
        raise InputError(
            f"need test labels below {len(bundle.config.classes)}, the classes of bundle "
            f"{bundle.path}, got {labels.max()} in {directory}; check {TEST_LABELS}"
        )
    hashes = {TEST_IMAGES: images_hash, TEST_LABELS: labels_hash}
    return images, labels.astype(np.int64), hashes
