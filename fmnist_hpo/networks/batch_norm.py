"""Statistics of batch normalisation for weights that no training step has seen."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["measure_statistics"]


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
