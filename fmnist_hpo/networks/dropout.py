"""Dropout that draws its mask 16 bits a value: torch's own are slow on a CPU."""

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

_LEVELS = 1 << 16  # probabilities are rounded to multiples of 2**-16


class Dropout(nn.Dropout):
    """Zeroes each value with probability p while training and scales the others to keep the mean.

    x: any shape, its memory dense (in any order) -> the same shape. Drawn from torch's global
    generator. On a GPU, and in evaluation, it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
        bits = words.random_(-(2**63), None).view(torch.int16)[: x.numel()]
        kept = bits.as_strided(x.shape, x.stride()) >= dropped - _LEVELS // 2
        # One factor of x's own type: two would be kept for, and multiplied in, the backward pass.
        return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
