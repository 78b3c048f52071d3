"""Augmentation of whole batches, at random (flip, shift, erase, mixup), and smaller images.

The functions take images of shape (n, rows, columns), uint8, on any device, and return new ones.
All but `resize` keep the shape; `mixup` and `resize` make them float32. Random numbers come from
torch's global generator of that device.
"""

import torch
from torch import Tensor

from fmnist_hpo.networks.config import TrainingConfig

__all__ = ["augment", "erase", "flip", "mixup", "resize", "shift"]

ERASED_SHARE = (0.02, 0.25)  # smallest and largest area of the square, as a share of the image's
#: Of mixup. Less mixes by less than 0.01 on average, and torch draws it wrongly: in float32 both
#: gamma variates are 0 then, whose share would be a half.
LEAST_ALPHA = 0.01


def augment(images: Tensor, config: TrainingConfig, mirrored: Tensor | None = None) -> Tensor:
    """Apply the augmentations that the configuration switches on, except `mixup`.

    Args:
        mirrored: (n,) bool, the images to mirror, instead of a random half.
    """
    if config.flip:
        images = flip(images, mirrored)
    if config.shift:
        images = shift(images, config.shift)
    if config.erase:
        images = erase(images, config.erase)
    return images


def flip(images: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Mirror each image left to right with probability 1/2, or those of `mirrored`, (n,) bool."""
    if mirrored is None:
        mirrored = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(mirrored[:, None, None], images.flip(2), images)


def shift(images: Tensor, most: int) -> Tensor:
    """Translate each image by -most to `most` pixels along each axis, independently and uniformly.

    Pixels that enter from outside are black (0): the padded random crop of Lee et al. 2015,
    "Deeply-Supervised Nets".
    """
    n, height, width = images.shape
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (2, n, 1), device=images.device)
    rows = (offsets[0] + torch.arange(height, device=images.device))[:, :, None]
    columns = (offsets[1] + torch.arange(width, device=images.device))[:, None, :]
    index = torch.arange(n, device=images.device)[:, None, None]
    return padded[index, rows, columns]


def erase(images: Tensor, probability: float) -> Tensor:
    """Blacken a random square of each image with a given probability.

    Random Erasing (Zhong et al. 2017), simplified: always a square, within `ERASED_SHARE`, filled
    with 0 instead of random values.
    """
    n, height, width = images.shape
    low, high = ERASED_SHARE
    draw = torch.rand(4, n, 1, 1, device=images.device)
    side = ((low + (high - low) * draw[0]) * (height * width)).sqrt()
    top, left = draw[1] * (height - side), draw[2] * (width - side)
    row = torch.arange(height, device=images.device)[None, :, None]
    column = torch.arange(width, device=images.device)[None, None, :]
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return images.masked_fill(inside & (draw[3] < probability), 0)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (n, rows, columns) -> float32 of another size, by antialiased linear interpolation."""
    return torch.nn.functional.interpolate(
        images.float().unsqueeze(1), size=size, mode="bilinear", antialias=True
    ).squeeze(1)


def mixup(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mix each image with another one of the batch (Zhang et al. 2018, "mixup").

    Args:
        alpha: of the beta distribution that the first image's share is drawn from, once a batch.

    Returns:
        The mixed images, float32; the index of the second image of each; the share of the first,
        at least 1/2.
    """
    share = 1.0
    if alpha >= LEAST_ALPHA:
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        share = max(share, 1 - share)
    other = torch.randperm(len(images), device=images.device)
    first = images.float()
    return first.lerp(first[other], 1 - share), other, share
