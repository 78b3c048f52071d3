"""Whole batches of images, changed at random: flip, shift, erase."""

import torch
from torch import Tensor

from fmnist_hpo.networks.config import TrainingConfig

__all__ = ["augment", "erase", "flip", "shift"]

ERASED_SHARE = (0.02, 0.25)  # of the image's area, as a square


def augment(images: Tensor, config: TrainingConfig) -> Tensor:
    """What the configuration asks for, drawn from torch's global generator.

    images: (n, h, w) uint8 -> the same shape and type.
    """
    if config.flip:
        images = flip(images)
    if config.shift:
        images = shift(images, config.shift)
    if config.erase:
        images = erase(images, config.erase)
    return images


def flip(images: Tensor) -> Tensor:
    """Mirror each image left-right with probability 1/2."""
    chosen = torch.rand(len(images), 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(2), images)


def shift(images: Tensor, most: int) -> Tensor:
    """Move each image by up to `most` pixels in both directions; what comes in is black (0)."""
    n, height, width = images.shape
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (2, n, 1), device=images.device)
    rows = (offsets[0] + torch.arange(height, device=images.device))[:, :, None]
    columns = (offsets[1] + torch.arange(width, device=images.device))[:, None, :]
    index = torch.arange(n, device=images.device)[:, None, None]
    return padded[index, rows, columns]


def erase(images: Tensor, probability: float) -> Tensor:
    """Blank a random square of each image with that probability (Zhong et al. 2017)."""
    n, height, width = images.shape
    low, high = ERASED_SHARE
    draw = torch.rand(4, n, 1, 1, device=images.device)
    side = ((low + (high - low) * draw[0]) * (height * width)).sqrt()
    top, left = draw[1] * (height - side), draw[2] * (width - side)
    row = torch.arange(height, device=images.device)[None, :, None]
    column = torch.arange(width, device=images.device)[None, None, :]
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return images.masked_fill(inside & (draw[3] < probability), 0)
