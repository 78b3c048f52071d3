"""Dropout whose mask takes 16 random bits per value; torch's implementation is slow on a CPU."""

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

_LEVELS = 1 << 16  # probabilities are rounded to multiples of 2**-16


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014): in training, set each value to 0 with probability p.

    The other values are divided by 1 - p, so that the mean is kept. The input has any shape and
    dense memory in any order; the output has the same. Random bits come from torch's global
    generator. On a GPU and in evaluation mode this is torch's implementation.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
        bits = words.random_(-(2**63), None).view(torch.int16)[: x.numel()]
        kept = bits.as_strided(x.shape, x.stride()) >= dropped - _LEVELS // 2
        # A single factor in x's type: autograd saves and multiplies one tensor instead of two.
        return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
