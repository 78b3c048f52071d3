"""Networks in bundles: their files, and their logits, computed exactly as in training."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from fmnist_hpo.bundle import REMEDY, Bundle
from fmnist_hpo.bundle.export import Model
from fmnist_hpo.bundle.kinds import Logits, Size
from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.bundles.onnx import Part, to_onnx
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig, from_json
from fmnist_hpo.networks.loop import EpochMetrics
from fmnist_hpo.networks.models import build, count_flops, count_parameters
from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits, normalization
from fmnist_hpo.networks.process import torch_defaults
from fmnist_hpo.networks.training import TrainResult

__all__ = ["build_model", "load_network", "part_of", "portable_files", "predictor", "size"]


def build_model(
    network: NetworkConfig,
    training: TrainingConfig,
    result: TrainResult,
    data: TrainingData,
    split: Split,
) -> Model:
    """A trained network in the form that `export` takes.

    Args:
        split: the split that it was trained and validated on.
    """
    rows, columns = data.image_size
    mean, deviation = normalization(training.normalization, data, split)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in result.weights.items()}
    return Model(
        files={"model.safetensors": safetensors.torch.save(tensors)},
        config={
            "kind": "network",
            "network": json.loads(network.to_json()),
            "training": asdict(training),
            "epoch": {
                "kept": result.kept * training.report_every,
                "trained": len(result.history) * training.report_every,
            },
            "classes": list(data.classes),
            "image_size": [rows, columns],
            "preprocessing": {
                "input": f"(n, 1, {rows}, {columns}) float32, grey values 0 to 255, light on dark",
                "normalization": training.normalization,
                "formula": "(images / 255 - mean) / deviation",
                "mean": mean,
                "deviation": deviation,
                "where": "part of model.onnx; not part of the network in model.safetensors",
            },
        },
        curves=_curves(result.history),
        fit_seconds=sum(step.seconds for step in result.history),
        report_every=training.report_every,
    )


def _curves(history: Sequence[EpochMetrics]) -> dict[str, list[Any]]:
    """One list per metric, one value per step, without the metrics that a step lacks."""
    rows = [asdict(metrics) for metrics in history]
    names = rows[0] if rows else ()
    curves = {name: [row[name] for row in rows] for name in names}
    return {name: values for name, values in curves.items() if None not in values}


def portable_files(bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:
    """The network with its readout as ONNX, by file name.

    Args:
        images: (n, rows, columns), n >= 1, on which ONNX Runtime and torch are compared.

    Raises:
        InputError: see `load_network` and `to_onnx`.
    """
    readout = bundle.config.readout
    part = part_of(bundle, weight=1 / readout.temperature)
    return {"model.onnx": to_onnx([part], flip=readout.flip, images=images)}


def part_of(bundle: Bundle, *, weight: float) -> Part:
    """A network of a bundle as a part of an ONNX model.

    Raises:
        InputError: see `load_network`.
    """
    mean, deviation = _normalization(bundle)
    return Part(network=load_network(bundle), mean=mean, deviation=deviation, weight=weight)


@torch_defaults()
def load_network(bundle: Bundle) -> nn.Module:
    """Load the network of a bundle: on the CPU, in float32 and in evaluation mode.

    The network maps normalised images (n, 1, rows, columns), float32, to logits (n, classes).

    Raises:
        InputError: config.json describes no valid network, or the weights do not fit it.
    """
    config = bundle.config
    described = from_json(json.dumps(config.fields.object("network").values))
    with torch.device("meta"):  # no memory is used before the weights are checked
        network = build(described, image_size=config.image_size, classes=len(config.classes))
    try:
        weights = safetensors.torch.load(bundle.read("model.safetensors"))
    except safetensors.SafetensorError as error:
        raise InputError(
            f"bundle {bundle.path}: model.safetensors cannot be read: {error}; {REMEDY}"
        ) from error
    expected = {name: _described(tensor) for name, tensor in network.state_dict().items()}
    found = {name: _described(tensor) for name, tensor in weights.items()}
    if found != expected:
        name = min(name for name in expected | found if expected.get(name) != found.get(name))
        raise InputError(
            f"bundle {bundle.path}: need the weights of the network in config.json, with {name} "
            f"being {expected.get(name, 'left out')}, got {found.get(name, 'none')}; {REMEDY}"
        )
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _described(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


@torch_defaults()
def size(bundle: Bundle) -> Size:
    """See `kinds.Kind`."""
    network = load_network(bundle)
    return Size(
        model_bytes=len(bundle.read("model.safetensors")),
        parameters=count_parameters(network),
        flops=count_flops(network, bundle.config.image_size),
    )


def predictor(bundle: Bundle) -> Logits:
    """See `kinds.Kind`.

    Runs on a GPU if there is one, in the precision and batches of validation during training. On
    the machine of the training the logits are therefore the same, bit for bit.

    Raises:
        InputError: see `load_network`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(bundle).to(device).to(memory_format=torch.channels_last)
    preprocessing = Preprocessing.of(_training(bundle), *_normalization(bundle))

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return compute_logits(network, preprocessing, images)

    return logits


def _normalization(bundle: Bundle) -> tuple[float, float]:
    """Mean and deviation of images / 255, as stored in the bundle."""
    stored = bundle.config.fields.object("preprocessing")
    deviation = stored.number("deviation", 0)
    if deviation == 0:
        stored.refuse("deviation", "a number above 0")
    return stored.number("mean"), deviation


def _training(bundle: Bundle) -> TrainingConfig:
    """The training's settings; an older bundle may lack those added since, except the precision."""
    stored = bundle.config.fields.object("training")
    names = {field.name for field in fields(TrainingConfig)}
    if not stored.values.keys() <= names:
        bundle.config.fields.refuse("training", f"no settings but {', '.join(sorted(names))}")
    stored.text("precision")  # the logits depend on it
    return TrainingConfig(**stored.values)
