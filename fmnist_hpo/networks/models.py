"""Builds a torch module from a network's configuration, and counts its parameters and FLOPs."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, NetworkConfig
from fmnist_hpo.networks.layers import Dropout, FlattenChannelsLast, Shortcut, Whitening

__all__ = ["build", "count_flops", "count_parameters"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}
# For a non-decreasing f, max(f(a), f(b)) = f(max(a, b)). Pooling before such an activation gives
# the same result and leaves it a quarter of the work.
_MONOTONE = {"relu", "leaky_relu", "elu", "tanh"}


def build(
    config: NetworkConfig, *, image_size: tuple[int, int] = (28, 28), classes: int = 10
) -> nn.Module:
    """Build a network with torch's default initialisation, drawn from its global generator.

    The network maps normalised images (n, 1, rows, columns), float, to logits (n, classes). A layer
    followed by batch normalisation has no bias, which the normalisation would cancel.

    Args:
        image_size: (rows, columns).

    Raises:
        InputError: there are fewer than 2 classes, or the images are too small.
    """
    if classes < 2:
        raise InputError(
            f"need at least 2 classes, got {classes}; check the labels of the data set"
        )
    if min(image_size) < 1:
        raise InputError(f"need images of at least 1x1, got {image_size}; check the data set")
    if isinstance(config, ANNConfig):
        layers = list(_ann(config, image_size, classes))
    else:
        layers = list(_cnn(config, image_size, classes))
    return nn.Sequential(*layers)


def _ann(config: ANNConfig, image_size: tuple[int, int], classes: int) -> Iterator[nn.Module]:
    yield nn.Flatten()
    width = image_size[0] * image_size[1]
    for units, dropout in zip(config.hidden_units, config.dropout, strict=True):
        yield nn.Linear(width, units, bias=not config.batch_norm)
        if config.batch_norm:
            yield _scaled(nn.BatchNorm1d(units), config.batch_norm_scale)
        yield _ACTIVATIONS[config.activation]()
        if dropout > 0:
            yield Dropout(dropout)
        width = units
    yield nn.Linear(width, classes)


def _cnn(config: CNNConfig, image_size: tuple[int, int], classes: int) -> Iterator[nn.Module]:
    height, width = config.map_size(image_size)
    channels = 1
    if config.whitening:
        whitening = Whitening()
        yield whitening
        yield _ACTIVATIONS[config.activation]()
        channels = whitening.out_channels
    for block_channels, dropout in zip(config.channels, config.dropout, strict=True):
        pooled = min(height, width) >= 2
        yield from _block(config, channels, block_channels, pooled)
        if dropout > 0:
            yield Dropout(dropout)
        channels = block_channels
        if pooled:
            height, width = height // 2, width // 2
    if config.head == "average":
        yield nn.AdaptiveAvgPool2d(1)
        height = width = 1
    yield FlattenChannelsLast()
    features = channels * height * width
    for units in config.dense_units:
        yield nn.Linear(features, units)
        yield _ACTIVATIONS[config.activation]()
        if config.dense_dropout > 0:
            yield Dropout(config.dense_dropout)
        features = units
    yield nn.Linear(features, classes)


def _block(config: CNNConfig, incoming: int, channels: int, pooled: bool) -> Iterator[nn.Module]:
    """(n, incoming, h, w) -> (n, channels, h // 2, w // 2), or (n, channels, h, w) unpooled."""
    activation = _ACTIVATIONS[config.activation]
    pooling = 0 if config.pool_after == "first" else config.convolutions - 1
    for index in range(config.convolutions):
        convolution = nn.Conv2d(
            incoming if index == 0 else channels,
            channels,
            config.kernel_size,
            padding=config.kernel_size // 2,
            bias=not config.batch_norm,
        )
        if config.init == "identity":
            nn.init.dirac_(convolution.weight[: convolution.in_channels])
        layers: list[nn.Module] = [convolution]
        if config.batch_norm:
            layers.append(_scaled(nn.BatchNorm2d(channels), config.batch_norm_scale))
        if config.shortcut and index > 0:
            yield Shortcut(*layers)
        else:
            yield from layers
        pool_here = pooled and index == pooling
        if pool_here and config.activation in _MONOTONE:
            yield nn.MaxPool2d(2)
            yield activation()
        else:
            yield activation()
            if pool_here:
                yield nn.MaxPool2d(2)


def _scaled(norm: nn.Module, scale: bool) -> nn.Module:
    """A batch normalisation whose scale is trained, or stays 1."""
    norm.get_parameter("weight").requires_grad_(scale)
    return norm


def count_parameters(network: nn.Module) -> int:
    """The number of trainable values; running statistics of batch normalisation do not count."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_flops(network: nn.Module, image_size: tuple[int, int] = (28, 28)) -> int:
    """FLOPs of one image's forward pass: 2 per multiply-add of linear and convolution layers.

    Biases, activations, normalisation and pooling are not counted, as is customary.

    Args:
        image_size: (rows, columns).
    """
    flops = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal flops
        if isinstance(layer, nn.Linear | nn.Conv2d):  # each output is a dot product with a filter
            flops += 2 * output.numel() * layer.weight[0].numel()

    training = network.training
    image = torch.zeros(1, 1, *image_size, device=next(network.parameters()).device)
    hooks = [layer.register_forward_hook(count) for layer in network.modules()]
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return flops
