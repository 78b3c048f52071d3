"""Classify images with a bundle, through ONNX Runtime where it can: no wait for torch to start."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import softmax

__all__ = ["Prediction", "load_model", "onnx_logits", "predict"]

BATCH = 256  # images at once; bounds the memory of activations


class Prediction(NamedTuple):
    """What the model says about one image."""

    name: str  # the most probable class
    probabilities: dict[str, float]  # of every class, the most probable first; only their order
    # counts where config.json says that the model's outputs are decision values


def predict(bundle: Bundle, images: NDArray[np.uint8]) -> list[Prediction]:
    """Classify images.

    Args:
        images: (n, rows, columns), 0 to 255, light on dark, as `read_images` gives them.

    Raises:
        InputError: images of another size than the model takes.
    """
    if images.ndim != 3 or images.shape[1:] != bundle.image_size:
        rows, columns = bundle.image_size
        raise InputError(
            f"need images (n, {rows}, {columns}), got {images.shape}; read them with read_images"
        )
    probabilities = softmax(load_model(bundle)(images))
    return [_prediction(bundle.classes, row) for row in probabilities]


def load_model(
    bundle: Bundle, *, threads: int | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.floating]]:
    """A bundle's model, loaded once: images (n, rows, columns) to logits (n, classes).

    Args:
        threads: of ONNX Runtime; None for one per core.
    """
    if "model.onnx" in bundle.files:
        return partial(_run, _session(bundle.read("model.onnx"), threads))
    from fmnist_hpo.bundle.kinds import kind_of

    return kind_of(bundle).reader(bundle)


def onnx_logits(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (n, rows, columns) to logits (n, classes), by ONNX Runtime on the processor."""
    return _run(_session(model, None), images)


def _session(model: bytes, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one per core
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    batches = [
        session.run(None, {"images": images[start : start + BATCH, None].astype(np.float32)})[0]
        for start in range(0, max(len(images), 1), BATCH)  # an empty batch has its shape, too
    ]
    return np.concatenate(batches)


def _prediction(classes: tuple[str, ...], row: NDArray[Any]) -> Prediction:
    order = np.argsort(-row, kind="stable")
    probabilities = {classes[index]: float(row[index]) for index in order}
    return Prediction(name=classes[order[0]], probabilities=probabilities)
