"""Layers that torch lacks or computes slowly on a CPU, and statistics of batch normalisation."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Dropout", "FlattenChannelsLast", "Shortcut", "Whitening", "measure_statistics"]

_EPSILON = 5e-4  # added to the variances that whitening divides by
_LEVELS = 1 << 16  # probabilities are rounded to multiples of 2**-16


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014): in training, set each value to 0 with probability p.

    The mask takes 16 random bits per value. The other values are divided by 1 - p, so that the mean
    is kept. The input has any shape and dense memory in any order; the output has the same. Random
    bits come from torch's global generator. On a GPU and in evaluation mode this is torch's
    implementation.
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


class Shortcut(nn.Sequential):
    """x + f(x) for layers f that keep the shape: an identity shortcut (He et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        added = x
        for layer in self:
            added = layer(added)
        return x + added


class Whitening(nn.Conv2d):
    """Fixed 2x2 filters that whiten grey images, and a bias that is trained.

    (n, 1, h, w) -> (n, 8, h - 1, w - 1). The filters are the eigenvectors of the patches' second
    moments, over the square roots of the eigenvalues, and their negatives: Jordan 2024, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU". They are random before `fit`.
    """

    bias: nn.Parameter

    def __init__(self) -> None:
        super().__init__(1, 8, 2)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the filters to those of images (n, 1, h, w), and the bias to 0."""
        patches = F.unfold(images.cpu().float(), 2).transpose(1, 2).reshape(-1, 4)
        moments, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
        filters = (directions / (moments + _EPSILON).sqrt()).T.reshape(4, 1, 2, 2)
        self.weight.copy_(torch.cat([filters, -filters]))
        self.bias.zero_()


class FlattenChannelsLast(nn.Module):
    """Flatten (n, c, h, w) to (n, h * w * c), a view of memory in channels-last format.

    `nn.Flatten` would copy, and pass back a gradient in contiguous format.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


@torch.inference_mode()
def measure_statistics(
    network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object]
) -> None:
    """Replace running means and variances by averages over batches.

    Dropout is off, as in the evaluation that the statistics are for: torch's `update_bn` leaves it
    on, which inflates the variances (Li et al. 2019, "Understanding the Disharmony between Dropout
    and Batch Normalization by Variance Shift").

    Args:
        network: is in evaluation mode afterwards.
        batches: images as `forward` takes them, at least two in each batch.
        forward: the network's forward pass.
    """
    network.eval()
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        layer.momentum = None  # a plain average over the batches
    for images in batches:
        forward(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
