"""From a trial's weights to a bundle that says what it is, how good it is and where it is from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.card import write_card
from fmnist_hpo.errors import InputError
from fmnist_hpo.figures import choose_samples, draw_confusion, draw_curves, draw_samples
from fmnist_hpo.metrics import Metrics, measure, softmax
from fmnist_hpo.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor

    from fmnist_hpo.config import NetworkConfig, TrainingConfig
    from fmnist_hpo.data import Split, TrainingData
    from fmnist_hpo.training import EpochMetrics

__all__ = ["Provenance", "export"]

COMPARED_IMAGES = 1000  # on which ONNX Runtime's outputs must be torch's
# Another processor or GPU rounds otherwise and moves an accuracy by some images in 10,000; weights
# of another trial move it by more than this share.
ACCURACY_TOLERANCE = 0.005


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the exported weights come from."""

    study: str
    trial: int
    params: Mapping[str, Any]
    seed: int
    value: float  # the trial's validation accuracy as stored, 0 to 1
    spec_hash: str  # of the frozen study file
    git_commit: str | None  # of this project where the weights were trained; None: no checkout
    environment: Mapping[str, str]  # versions, processor, device, threads where they were trained
    refit: bool  # trained anew on training and validation images; then `split` validates nothing


def export(
    directory: Path,
    *,
    network_config: "NetworkConfig",
    training_config: "TrainingConfig",
    weights: "Mapping[str, Tensor]",
    data: "TrainingData",
    split: "Split",
    history: "Sequence[EpochMetrics]",
    provenance: Provenance,
) -> Bundle:
    """Write a bundle; an earlier one of the same study in `directory` is replaced in one step.

    Args:
        weights: the network's state after the last epoch of `history`.
        split: what the weights were trained and validated on.

    Raises:
        InputError: the weights do not belong to the network or to the trial's value, the ONNX
            model's outputs are not torch's, `directory` holds something else, or the disk is full.
    """
    import safetensors.torch

    from fmnist_hpo.inference import load_network, logits
    from fmnist_hpo.onnx_model import to_onnx

    config = _config(network_config, training_config, data, split)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    files = {
        "model.safetensors": safetensors.torch.save(tensors),
        "config.json": to_json(config),
    }
    draft = Bundle(path=directory, files=files)
    title = f"{provenance.study}, trial {provenance.trial}"
    validation = None
    if len(split.validation):
        images, labels = data.images[split.validation], data.labels[split.validation]
        outputs = logits(draft, images)
        validation = measure(outputs, labels, data.classes)
        _check_accuracy(validation, provenance)
        part = f"{title}: validation part"
        probabilities = softmax(outputs).astype(np.float32)
        predictions = Predictions(labels=labels, probabilities=probabilities)
        samples = choose_samples(images, predictions, data.classes)
        files["figures/validation-confusion.png"] = draw_confusion(
            validation, f"{part}, {validation.n:,} images"
        )
        files["figures/validation-samples.png"] = draw_samples(samples, part)
    compared = split.validation if len(split.validation) else split.train
    files["model.onnx"] = to_onnx(
        load_network(draft),
        mean=config["preprocessing"]["mean"],
        deviation=config["preprocessing"]["deviation"],
        images=data.images[compared[:COMPARED_IMAGES]],
    )
    record = asdict(provenance) | {"data_hashes": dict(data.hashes), "split_hash": split.hash}
    curves = _curves(history)
    metrics = {
        "curves": curves,
        "validation": validation.to_json() if validation else None,
        "test": None,
    }
    files["metrics.json"] = to_json(metrics)
    files["provenance.json"] = to_json(record)
    files["figures/curves.png"] = draw_curves(curves, title)
    files["MODEL_CARD.md"] = write_card(config, metrics, record, files.keys())
    return Bundle.write(directory, files)


def _config(
    network: "NetworkConfig", training: "TrainingConfig", data: "TrainingData", split: "Split"
) -> dict[str, Any]:
    from fmnist_hpo.preprocessing import normalization

    rows, columns = data.image_size
    mean, deviation = normalization(training.normalization, data, split)
    return {
        "kind": "network",
        "network": json.loads(network.to_json()),
        "training": asdict(training),
        "classes": list(data.classes),
        "image_size": [rows, columns],
        "preprocessing": {
            "input": f"(n, 1, {rows}, {columns}) float32, grey values 0 to 255, light on dark",
            "normalization": training.normalization,
            "formula": "(images / 255 - mean) / deviation",
            "mean": mean,
            "deviation": deviation,
            "where": "model.onnx has it inside; the network of model.safetensors wants it done",
        },
    }


def _curves(history: "Sequence[EpochMetrics]") -> dict[str, list[Any]]:
    """One list per figure, without the figures that no epoch has."""
    rows = [asdict(metrics) for metrics in history]
    names = rows[0] if rows else ()
    curves = {name: [row[name] for row in rows] for name in names}
    return {name: values for name, values in curves.items() if None not in values}


def _check_accuracy(validation: Metrics, provenance: Provenance) -> None:
    if abs(validation.accuracy - provenance.value) > ACCURACY_TOLERANCE:
        raise InputError(
            f"need the weights of trial {provenance.trial}, whose validation accuracy is "
            f"{provenance.value:.4f}, got weights with {validation.accuracy:.4f}; reproduce the "
            "trial and export it from there"
        )
