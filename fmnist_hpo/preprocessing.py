"""From uint8 images to logits: normalisation and precision, the same in training and inference."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fmnist_hpo.config import TrainingConfig
from fmnist_hpo.data import Split, TrainingData

__all__ = ["Preprocessing", "bf16_is_fast", "normalization"]

_COUNTED_AT_ONCE = 1000  # images; counting pixels takes 8 bytes for each


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a network sees images: (images / 255 - mean) / deviation, in a precision."""

    mean: float
    deviation: float
    dtype: torch.dtype

    @staticmethod
    def of(config: TrainingConfig, mean: float, deviation: float) -> "Preprocessing":
        """`config.precision` decided for this machine."""
        bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_fast())
        dtype = torch.bfloat16 if bf16 else torch.float32
        return Preprocessing(mean=mean, deviation=deviation, dtype=dtype)

    def logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """images: (n, h, w) uint8, 0 to 255 -> logits: (n, classes) float32."""
        # Centred before it is scaled: bf16 holds pixel - 127.5 exactly.
        inputs = images.to(self.dtype).sub_(255 * self.mean).mul_(1 / (255 * self.deviation))
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16
        ):
            logits: Tensor = network(inputs.unsqueeze(1))
        return logits.float()


def bf16_is_fast() -> bool:
    """Whether this processor or GPU multiplies bf16 matrices in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public question for this; its own compiler asks these two.
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def normalization(how: str, data: TrainingData, split: Split) -> tuple[float, float]:
    """Mean and deviation of images / 255, computed in exact integers.

    how: "symmetric" maps to (-1, 1); "standard" takes all pixels of the training part.
    """
    if how == "symmetric":
        return 0.5, 0.5
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(split.train), _COUNTED_AT_ONCE):
        images = data.images[split.train[start : start + _COUNTED_AT_ONCE]]
        counts += np.bincount(images.ravel(), minlength=256)
    values = np.arange(256)
    n, total, squares = (int((counts * values**power).sum()) for power in (0, 1, 2))
    variance = (n * squares - total**2) / n**2
    # A data set of one single grey has no deviation; its images become 0.
    return total / n / 255, math.sqrt(variance) / 255 or 1.0
