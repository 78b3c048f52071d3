"""Classifies images with a bundle, through ONNX Runtime where it can, without torch."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.kinds import Logits, check_logits, load
from fmnist_hpo.bundle.onnx_session import open_model
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import softmax

__all__ = ["Prediction", "load_model", "predict"]


class Prediction(NamedTuple):
    """The model's answer for one image."""

    name: str  # the most probable class
    probabilities: dict[str, float]  # of every class, the most probable first; only their order
    # counts where config.json says that the model's outputs are decision values


def predict(bundle: Bundle, images: NDArray[np.uint8]) -> list[Prediction]:
    """Classify images.

    Args:
        images: (n, rows, columns), 0 to 255, light on dark, as `read_images` returns them.

    Raises:
        InputError: images of another size than the model takes, or a model that cannot be run.
    """
    size = bundle.config.image_size
    if images.ndim != 3 or images.shape[1:] != size:
        raise InputError(
            f"need images (n, {size[0]}, {size[1]}), got {images.shape}; read them with read_images"
        )
    logits = check_logits(bundle, load_model(bundle)(images), len(images))
    return [_prediction(bundle.config.classes, row) for row in softmax(logits)]


def load_model(bundle: Bundle, *, threads: int | None = None) -> Logits:
    """Load a bundle's model: images (n, rows, columns) to logits (n, classes).

    The logits are divided by the bundle's temperature: their softmax is its probabilities.

    Args:
        threads: of ONNX Runtime; None for one per core.

    Raises:
        InputError: the model cannot be loaded.
    """
    if "model.onnx" not in bundle.files:
        model, temperature = load(bundle), bundle.config.readout.temperature
        return lambda images: model(images) / temperature
    return open_model(
        bundle.read("model.onnx"),
        image_size=bundle.config.image_size,
        where=f"bundle {bundle.path}: model.onnx",
        threads=threads,
    )


def _prediction(classes: tuple[str, ...], row: NDArray[Any]) -> Prediction:
    order = np.argsort(-row, kind="stable")
    probabilities = {classes[index]: float(row[index]) for index in order}
    return Prediction(name=classes[order[0]], probabilities=probabilities)
