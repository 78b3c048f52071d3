"""Normalisation, precision and the forward pass, identical in training and inference."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from fmnist_hpo.data import Examples, Split
from fmnist_hpo.environment import vendor
from fmnist_hpo.networks.config import TrainingConfig
from fmnist_hpo.networks.process import torch_defaults

__all__ = [
    "EVALUATION_BATCH",
    "Preprocessing",
    "as_tensor",
    "bf16_is_fast",
    "compute_logits",
    "normalization",
]

EVALUATION_BATCH = 500  # images; larger batches need more memory and are no faster
_COUNTED_AT_ONCE = 1000  # images; counting needs 8 bytes per pixel


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Input transformation (images / 255 - mean) / deviation, and the precision of the network."""

    mean: float
    deviation: float
    dtype: torch.dtype

    @staticmethod
    def of(config: TrainingConfig, mean: float, deviation: float) -> "Preprocessing":
        """The preprocessing of a training; precision "auto" is resolved for this machine."""
        bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_fast())
        dtype = torch.bfloat16 if bf16 else torch.float32
        return Preprocessing(mean=mean, deviation=deviation, dtype=dtype)

    def logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """Images (n, rows, columns), uint8 or float32 -> logits (n, classes), float32."""
        with torch.autocast(
            images.device.type,
            dtype=torch.bfloat16,
            enabled=self.dtype is torch.bfloat16,
            # In a surrounding autocast block the cache of cast weights would survive the step.
            cache_enabled=False,
        ):
            logits: Tensor = network(self.inputs(images))
        return logits.float()

    def inputs(self, images: Tensor) -> Tensor:
        """Images (n, rows, columns) -> what a network takes, (n, 1, rows, columns)."""
        # Subtract before scaling: bf16 represents pixel - 127.5 exactly. Float images stay float32.
        dtype = torch.float32 if images.is_floating_point() else self.dtype
        inputs = images.to(dtype, copy=True).sub_(255 * self.mean).mul_(1 / (255 * self.deviation))
        return inputs.unsqueeze(1)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor that shares an array's memory. Do not write to it: the array may be read-only."""
    return from_dlpack(array)  # torch.from_numpy warns about read-only arrays


@torch_defaults()
def compute_logits(
    network: nn.Module, preprocessing: Preprocessing, images: NDArray[Any]
) -> NDArray[np.float32]:
    """Logits of any number of images, computed in batches of `EVALUATION_BATCH`.

    Args:
        network: in evaluation mode, on any device.
        images: (n, rows, columns), n >= 1, uint8 or float32; may be read-only.

    Returns:
        (n, classes), float32.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = [
            preprocessing.logits(network, batch.to(device)).cpu().numpy()
            for batch in torch.split(as_tensor(images), EVALUATION_BATCH)
        ]
    logits: NDArray[np.float32] = np.concatenate(batches)
    return logits


def bf16_is_fast() -> bool:
    """Whether this processor or GPU multiplies bf16 matrices faster than float32 ones.

    True for AMX and for AMD's processors with AVX512_BF16. Intel's vector units reach only half the
    rate of float32: 84 against 168 GFLOP/s on one core of a Xeon whose AMX was hidden by the
    virtual machine (torch 2.15, matrices of 2,048 x 2,048). A convolutional network took 1.5 times
    as long in bf16 there.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    if has.get("amx_bf16", False):
        return True
    return bool(has.get("avx512_bf16", False)) and vendor() != "GenuineIntel"


def normalization(how: str, data: Examples, split: Split) -> tuple[float, float]:
    """Mean and deviation of images / 255 that normalise the training part.

    Args:
        how: "symmetric" maps the grey values 0 to 255, or the range of float images, to [-1, 1];
            "standard" gives all pixels together mean 0 and standard deviation 1. The sums over
            grey values are exact integers, so the result does not depend on their order.

    Returns:
        Mean and deviation; the deviation is above 0 also when all pixels are equal.
    """
    if data.images.dtype != np.uint8:
        return _of_floats(how, data, split)
    if how == "symmetric":
        return 0.5, 0.5
    counts = np.zeros(256, dtype=np.int64)
    for images in _parts(data, split):
        counts += np.bincount(images.ravel(), minlength=256)
    values = np.arange(256)
    n, total, squares = (int((counts * values**power).sum()) for power in (0, 1, 2))
    variance = (n * squares - total**2) / n**2
    # If all pixels are equal their deviation is 0, and any other divisor maps them to 0.
    return total / n / 255, math.sqrt(variance) / 255 or 1.0


def _of_floats(how: str, data: Examples, split: Split) -> tuple[float, float]:
    if how == "symmetric":
        low = min(float(images.min()) for images in _parts(data, split))
        high = max(float(images.max()) for images in _parts(data, split))
        middle, deviation = (low + high) / 2, (high - low) / 2
    else:
        n = len(split.train) * math.prod(data.image_size)
        middle = sum(float(part.sum(dtype=np.float64)) for part in _parts(data, split)) / n
        squares = (
            float(np.square(part - middle, dtype=np.float64).sum()) for part in _parts(data, split)
        )
        deviation = math.sqrt(sum(squares) / n)
    return middle / 255, deviation / 255 or 1 / 255


def _parts(data: Examples, split: Split) -> Iterator[NDArray[Any]]:
    for start in range(0, len(split.train), _COUNTED_AT_ONCE):
        yield data.images[split.train[start : start + _COUNTED_AT_ONCE]]
