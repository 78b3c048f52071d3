"""Writes the bundle of a trial's model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.calibration import Flip, choose_readout
from fmnist_hpo.bundle.card import write_card
from fmnist_hpo.bundle.fields import to_json
from fmnist_hpo.bundle.figures import (
    choose_samples,
    draw_confusion,
    draw_curves,
    draw_folds,
    draw_samples,
)
from fmnist_hpo.bundle.kinds import kind_of
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.bundle.records import ModelMetrics, Provenance, Readout, StoredProvenance
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import measure

if TYPE_CHECKING:
    from fmnist_hpo.data import Split, TrainingData

__all__ = ["Model", "check_accuracy", "draft", "export"]

COMPARED_IMAGES = 1000  # on which ONNX Runtime's outputs must be torch's
# Another processor or GPU rounds otherwise and moves an accuracy by some images in 10,000; weights
# of another trial move it by more than this share.
ACCURACY_TOLERANCE = 0.005
FEW_IMAGES = 3  # that may move, however few there are


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model of any kind, as it is exported."""

    files: Mapping[str, bytes]  # the model itself
    config: Mapping[str, Any]  # config.json; "kind" says how it is read, see `kinds`
    curves: Mapping[str, list[Any]]  # one value per step each; empty for a model without steps
    fit_seconds: float
    report_every: float = 1.0  # epochs in a step


def export(
    directory: Path,
    model: Model,
    *,
    data: "TrainingData",
    split: "Split",
    provenance: Provenance,
    fold_curves: "Mapping[str, Sequence[float]] | None" = None,
    flip: Flip = "no",
    readout: Readout | None = None,
) -> Bundle:
    """Write a bundle; an earlier one of the same study in `directory` is replaced in one step.

    Args:
        split: what the model was trained and validated on.
        fold_curves: of the cross-validated trial: one value per fold each.
        flip: whether the logits are averaged over an image and its mirror image; "auto" decides on
            the validation part.
        readout: of a model without a validation part, as decided before its refit.

    Raises:
        InputError: the weights do not belong to the network or to the trial's value, the ONNX
            model's outputs are not torch's, a reader would refuse the bundle, `directory` holds
            something else, or the disk is full.
    """
    title = f"{provenance.study}, {provenance.what}"
    validation, files = None, dict(model.files)
    if len(split.validation):
        images, labels = data.images[split.validation], data.labels[split.validation]
        readout, outputs, plain = choose_readout(draft(directory, model), images, labels, flip=flip)
        check_accuracy(plain, provenance.trial, provenance.value, len(labels))
        made = draft(directory, model, readout)
        validation = measure(outputs, labels, data.classes, temperature=readout.temperature)
        part = f"{title}: validation part"
        predictions = Predictions.of(outputs, labels, readout.temperature)
        samples = choose_samples(
            images,
            predictions,
            data.classes,
            has_probabilities=made.config.has_probabilities,
        )
        files["figures/validation-confusion.png"] = draw_confusion(
            validation, f"{part}, {validation.n:,} images"
        )
        files["figures/validation-samples.png"] = draw_samples(samples, part)
    else:
        made = draft(directory, model, readout or Readout())
    files["config.json"] = made.read("config.json")
    compared = split.validation if len(split.validation) else split.train
    files |= kind_of(made).portable_files(made, data.images[compared[:COMPARED_IMAGES]])
    stored = StoredProvenance(
        **vars(provenance), data_hashes=dict(data.hashes), split_hash=split.hash
    )
    metrics = ModelMetrics(
        curves=model.curves,
        folds={name: list(values) for name, values in (fold_curves or {}).items()},
        fit_seconds=model.fit_seconds,
        validation=validation,
        test=None,
    )
    files["metrics.json"] = to_json(metrics.to_json())
    files["provenance.json"] = to_json(stored.to_json())
    if model.curves:
        files["figures/curves.png"] = draw_curves(
            model.curves, title, report_every=model.report_every
        )
    if fold_curves:
        files["figures/folds.png"] = draw_folds(fold_curves, title)
    files["MODEL_CARD.md"] = write_card(made.config, metrics, stored, files.keys())
    whole = Bundle(path=directory, files=files)
    _ = whole.config, whole.metrics, whole.provenance  # what a reader would refuse is not written
    return Bundle.write(directory, files)


def draft(directory: Path, model: Model, readout: Readout | None = None) -> Bundle:
    """The bundle of a model alone, in memory."""
    config = {**model.config, "readout": (readout or Readout()).to_json()}
    return Bundle(path=directory, files={**model.files, "config.json": to_json(config)})


def check_accuracy(accuracy: float, trial: int, value: float, images: int) -> None:
    """Raise InputError where weights have another accuracy than a trial's value.

    Args:
        images: on which both were found.
    """
    if abs(accuracy - value) > max(ACCURACY_TOLERANCE, FEW_IMAGES / images) + 1e-9:
        raise InputError(
            f"need the weights of trial {trial}, whose validation accuracy is {value:.4f}, got "
            f"weights with {accuracy:.4f}; reproduce the "
            "trial and export it from there"
        )
