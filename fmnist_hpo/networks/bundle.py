"""Networks in bundles: what is written of one, and its logits, computed exactly as in training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
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
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig, from_json
from fmnist_hpo.networks.loop import EpochMetrics
from fmnist_hpo.networks.models import build, count_flops, count_parameters
from fmnist_hpo.networks.onnx import to_onnx
from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits, normalization
from fmnist_hpo.networks.process import torch_defaults
from fmnist_hpo.networks.training import TrainResult

__all__ = ["load_network", "pack", "portable", "reader", "size"]


def pack(
    network: NetworkConfig,
    training: TrainingConfig,
    result: TrainResult,
    data: TrainingData,
    split: Split,
) -> Model:
    """A network for `export`.

    Args:
        split: what it was trained and validated on.
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
            "epoch": {"kept": result.kept, "trained": len(result.history)},
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
        },
        curves=_curves(result.history),
        fit_seconds=sum(epoch.seconds for epoch in result.history),
    )


def _curves(history: Sequence[EpochMetrics]) -> dict[str, list[Any]]:
    """One list per figure, without the figures that no epoch has."""
    rows = [asdict(metrics) for metrics in history]
    names = rows[0] if rows else ()
    curves = {name: [row[name] for row in rows] for name in names}
    return {name: values for name, values in curves.items() if None not in values}


def portable(bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:
    """The network as ONNX, compared with torch on some images (n, rows, columns), n >= 1.

    Raises:
        InputError: see `load_network` and `onnx_model.to_onnx`.
    """
    stored = bundle.config["preprocessing"]
    model = to_onnx(
        load_network(bundle), mean=stored["mean"], deviation=stored["deviation"], images=images
    )
    return {"model.onnx": model}


@torch_defaults()
def load_network(bundle: Bundle) -> nn.Module:
    """The network of a bundle on the CPU, in float32 and in evaluation mode.

    normalised images: (n, 1, rows, columns) float32 -> logits: (n, classes)

    Raises:
        InputError: config.json describes no network, or another than the weights are of.
    """
    network = build(
        from_json(json.dumps(bundle.config["network"])),
        image_size=bundle.image_size,
        classes=len(bundle.classes),
    )
    weights = safetensors.torch.load(bundle.read("model.safetensors"))
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        name = min(name for name in expected | found if expected.get(name) != found.get(name))
        raise InputError(
            f"bundle {bundle.path}: need the weights of the network in config.json, with {name} "
            f"of shape {expected.get(name)}, got {found.get(name)}; {REMEDY}"
        )
    network.load_state_dict(weights)
    return network.eval()


@torch_defaults()
def size(bundle: Bundle) -> Size:
    """See `inference.Kind`."""
    network = load_network(bundle)
    return Size(
        model_bytes=len(bundle.read("model.safetensors")),
        parameters=count_parameters(network),
        flops=count_flops(network, bundle.image_size),
    )


def reader(bundle: Bundle) -> Logits:
    """See `inference.Kind`.

    On the GPU where there is one, in bf16 where training would choose it, in training's batches:
    on the machine that trained the weights the numbers are the very same.

    Raises:
        InputError: see `load_network`; or, when called, the weights have diverged: a logit is not
            finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(bundle).to(device).to(memory_format=torch.channels_last)
    stored = bundle.config["preprocessing"]
    preprocessing = Preprocessing.of(
        TrainingConfig(**bundle.config["training"]), stored["mean"], stored["deviation"]
    )

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = compute_logits(network, preprocessing, images)
        if not np.isfinite(outputs).all():
            raise InputError(
                f"need a network with finite outputs, got {np.isnan(outputs).sum()} NaN among "
                f"{outputs.size} from bundle {bundle.path}; choose a trial that has not diverged"
            )
        return outputs

    return logits
