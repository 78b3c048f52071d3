"""From a trial's model to a bundle that says what it is, how good it is and where it is from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_hpo.bundle.bundle import Bundle, to_json
from fmnist_hpo.bundle.card import write_card
from fmnist_hpo.bundle.figures import (
    choose_samples,
    draw_confusion,
    draw_curves,
    draw_folds,
    draw_samples,
)
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import Metrics, measure, softmax

if TYPE_CHECKING:
    from fmnist_hpo.data import Split, TrainingData

__all__ = ["Model", "Provenance", "export"]

COMPARED_IMAGES = 1000  # on which ONNX Runtime's outputs must be torch's
# Another processor or GPU rounds otherwise and moves an accuracy by some images in 10,000; weights
# of another trial move it by more than this share.
ACCURACY_TOLERANCE = 0.005


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the exported weights come from."""

    study: str
    study_uid: str  # ours: of two studies of one name each has its own
    trial: int
    params: Mapping[str, Any]
    seed: int
    value: float  # the trial's validation accuracy as stored, 0 to 1
    spec_hash: str  # of the frozen study file
    git_commit: str | None  # of the checkout that exported; None: no checkout
    environment: Mapping[str, str]  # versions, processor, device, threads where they were trained
    refit: bool  # trained anew on all training images; then `split` validates nothing
    folds: int | None  # of the cross-validation that chose it; None: one part was held out
    tuned_on: int  # images that the trials saw, training and validation together
    trained_on: int  # images that the exported model was trained on


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model of any kind, as it is exported."""

    files: Mapping[str, bytes]  # that it consists of
    config: Mapping[str, Any]  # config.json; "kind" says how it is read, see `inference`
    curves: Mapping[str, list[Any]]  # one value per epoch each; empty for a model without epochs
    fit_seconds: float


def export(
    directory: Path,
    model: Model,
    *,
    data: "TrainingData",
    split: "Split",
    provenance: Provenance,
    fold_curves: "Mapping[str, Sequence[float]] | None" = None,
) -> Bundle:
    """Write a bundle; an earlier one of the same study in `directory` is replaced in one step.

    Args:
        split: what the model was trained and validated on.
        fold_curves: of the cross-validated trial: one value per fold each.

    Raises:
        InputError: the weights do not belong to the network or to the trial's value, the ONNX
            model's outputs are not torch's, `directory` holds something else, or the disk is full.
    """
    from fmnist_hpo.bundle.kinds import kind_of

    files = {**model.files, "config.json": to_json(model.config)}
    draft = Bundle(path=directory, files=files)
    kind = kind_of(draft)
    title = f"{provenance.study}, trial {provenance.trial}"
    validation = None
    if len(split.validation):
        images, labels = data.images[split.validation], data.labels[split.validation]
        outputs = kind.reader(draft)(images)
        validation = measure(outputs, labels, data.classes)
        _check_accuracy(validation, provenance)
        part = f"{title}: validation part"
        probabilities = softmax(outputs).astype(np.float32)
        predictions = Predictions(labels=labels, probabilities=probabilities)
        samples = choose_samples(
            images, predictions, data.classes, has_probabilities=draft.has_probabilities
        )
        files["figures/validation-confusion.png"] = draw_confusion(
            validation, f"{part}, {validation.n:,} images"
        )
        files["figures/validation-samples.png"] = draw_samples(samples, part)
    compared = split.validation if len(split.validation) else split.train
    files |= kind.portable(draft, data.images[compared[:COMPARED_IMAGES]])
    record = asdict(provenance) | {"data_hashes": dict(data.hashes), "split_hash": split.hash}
    metrics = {
        "curves": dict(model.curves),
        "folds": dict(fold_curves or {}),
        "fit_seconds": model.fit_seconds,
        "validation": validation.to_json() if validation else None,
        "test": None,
    }
    files["metrics.json"] = to_json(metrics)
    files["provenance.json"] = to_json(record)
    if model.curves:
        files["figures/curves.png"] = draw_curves(model.curves, title)
    if fold_curves:
        files["figures/folds.png"] = draw_folds(fold_curves, title)
    files["MODEL_CARD.md"] = write_card(model.config, metrics, record, files.keys())
    return Bundle.write(directory, files)


def _check_accuracy(validation: Metrics, provenance: Provenance) -> None:
    if abs(validation.accuracy - provenance.value) > ACCURACY_TOLERANCE:
        raise InputError(
            f"need the weights of trial {provenance.trial}, whose validation accuracy is "
            f"{provenance.value:.4f}, got weights with {validation.accuracy:.4f}; reproduce the "
            "trial and export it from there"
        )
