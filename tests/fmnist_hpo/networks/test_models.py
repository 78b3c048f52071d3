"""Networks have the layers, parameters and FLOPs that were computed by hand."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.config import CNNConfig, parse
from fmnist_hpo.networks.models import build, count_flops, count_parameters

ANN_4 = {"family": "ann", "layers": 2, "hidden_units_0": 256, "hidden_units_1": 128}
CNN_4 = {"family": "cnn", "blocks": 2, "channels_0": 32, "channels_1": 64, "dense_dropout": 0.5}
CNN_5 = {
    "family": "cnn",
    "blocks": 3,
    "channels_0": 32,
    "channels_1": 64,
    "channels_2": 128,
    "activation": "leaky_relu",
}
WIDE = {"family": "cnn", "blocks": 3, "convolutions": 2, "channels": 8, "batch_norm": True}
WHITENED = WIDE | {"whitening": True, "batch_norm_scale": False, "init": "identity"}


@pytest.mark.parametrize(
    ("params", "parameters", "multiply_adds"),
    [
        # 784*256 + 256 + 256*128 + 128 + 128*10 + 10
        (ANN_4, 235_146, 784 * 256 + 256 * 128 + 128 * 10),
        # batch norm: a scale and a shift instead of each bias
        (ANN_4 | {"batch_norm": True}, 235_146 + 256 + 128, 784 * 256 + 256 * 128 + 128 * 10),
        # 32*9 + 32 + 64*32*9 + 64 + (64*7*7)*128 + 128 + 128*10 + 10
        (
            CNN_4,
            320 + 18_496 + 401_536 + 1_290,
            28 * 28 * 32 * 9 + 14 * 14 * 64 * 32 * 9 + 3136 * 128 + 1280,
        ),
        # 28 -> 14 -> 7 -> 3: the dense layer sees 128*3*3
        (
            CNN_5,
            320 + 18_496 + 73_856 + 1152 * 128 + 128 + 1_290,
            28 * 28 * 288 + 14 * 14 * 64 * 288 + 7 * 7 * 128 * 576 + 1152 * 128 + 1280,
        ),
        # average head, no dense layer
        (
            WIDE | {"head": "average", "dense_layers": 0},
            (72 + 16) + 5 * (576 + 16) + 80 + 10,
            784 * (72 + 576) + 196 * 1152 + 49 * 1152 + 80,
        ),
        # all convolutions but the first of each block at the size after pooling
        (
            WIDE | {"head": "average", "dense_layers": 0, "pool_after": "first"},
            (72 + 16) + 5 * (576 + 16) + 80 + 10,
            784 * 72 + 196 * 576 + 196 * 576 + 49 * 576 + 49 * 576 + 9 * 576 + 80,
        ),
        # of the whitening a bias is trained, of batch norm a shift; 28 -> 27 -> 13 -> 6 -> 3
        (
            WHITENED | {"head": "average", "dense_layers": 0},
            8 + 6 * (576 + 8) + 80 + 10,
            729 * 8 * 4 + 729 * 1152 + 169 * 1152 + 36 * 1152 + 80,
        ),
        # batch norm without a scale
        (
            ANN_4 | {"batch_norm": True, "batch_norm_scale": False},
            235_146,
            784 * 256 + 256 * 128 + 128 * 10,
        ),
    ],
)
def test_counts(params: dict[str, Any], parameters: int, multiply_adds: int) -> None:
    network = build(parse(params)[0])
    assert count_parameters(network) == parameters
    assert count_flops(network) == 2 * multiply_adds
    assert network.training  # counting leaves the mode alone
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 1, 28, 28))
    assert counter.get_total_flops() == 2 * multiply_adds


@pytest.mark.parametrize(
    "params",
    [
        ANN_4,
        CNN_4,
        CNN_5 | {"dropout_0": 0.25, "dropout_1": 0.25, "dropout_2": 0.4, "dense_dropout": 0.3},
        WIDE,
        WIDE | {"blocks": 5, "pool_after": "first", "shortcut": True},
        WHITENED,
        {"family": "ann", "layers": 6, "hidden_units": 16, "activation": "gelu"},
        {"family": "cnn", "blocks": 1, "channels": 4},
        {"family": "cnn", "blocks": 4, "channels": 4, "dense_layers": 3, "dense_units": 16},
        {"family": "cnn", "blocks": 5, "channels": 4, "kernel_size": 7, "activation": "silu"},
    ],
)
@pytest.mark.parametrize(("size", "classes"), [((28, 28), 10), ((17, 40), 3)])
def test_shapes(params: dict[str, Any], size: tuple[int, int], classes: int) -> None:
    network = build(parse(params)[0], image_size=size, classes=classes)
    logits = network(torch.randn(5, 1, *size))
    assert logits.shape == (5, classes)
    logits.sum().backward()
    for parameter in network.parameters():
        assert (parameter.grad is not None) is parameter.requires_grad


def test_the_cnn_is_the_textbook_one() -> None:
    """Against a forward pass written out, activation before pooling as textbooks have it."""
    torch.manual_seed(0)
    network = build(CNNConfig(activation="leaky_relu", batch_norm=True)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.normal_(layer.weight)
    state = network.state_dict()
    kernels = [value for value in state.values() if value.ndim == 4]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    dense = [m for m in network.modules() if isinstance(m, nn.Linear)]
    images = torch.randn(4, 1, 28, 28)
    x = images
    for kernel, norm in zip(kernels, norms, strict=True):
        x = F.max_pool2d(F.leaky_relu(norm(F.conv2d(x, kernel, padding=1))), 2)
    expected = dense[1](F.leaky_relu(dense[0](x.permute(0, 2, 3, 1).flatten(1))))
    torch.testing.assert_close(network(images), expected)


def test_impossible_data() -> None:
    with pytest.raises(InputError, match="at least 2 classes, got 1"):
        build(CNNConfig(), classes=1)
    with pytest.raises(InputError, match=r"whitening needs images of at least 2x2, got \(1, 9\)"):
        build(CNNConfig(whitening=True), image_size=(1, 9))


@pytest.mark.parametrize(("incoming", "channels"), [(4, 9), (6, 6), (9, 4)])
def test_identity_passes_the_first_channels_on(incoming: int, channels: int) -> None:
    config = CNNConfig(channels=(incoming, channels), init="identity", kernel_size=5)
    convolution = [layer for layer in build(config) if isinstance(layer, nn.Conv2d)][1]
    x = torch.randn(2, incoming, 7, 7)
    passed = min(incoming, channels)
    y = convolution(x) - convolution.bias[:, None, None]  # type: ignore[index]
    torch.testing.assert_close(y[:, :passed], x[:, :passed])
    assert not convolution.weight[passed:].eq(0).any()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_shortcuts_add_what_enters_a_convolution(activation: str, batch_norm: bool) -> None:
    """Against a forward pass written out, layer by layer."""
    params = {"family": "cnn", "blocks": 1, "channels": 4, "convolutions": 3, "shortcut": True}
    params |= {"activation": activation, "batch_norm": batch_norm, "head": "average"}
    network = build(parse(params | {"dense_layers": 0})[0]).eval()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    norms = norms or [nn.Identity()] * 3  # type: ignore[list-item]
    act = getattr(F, activation)
    images = torch.randn(2, 1, 28, 28)
    x = act(norms[0](convolutions[0](images)))
    for convolution, norm in zip(convolutions[1:], norms[1:], strict=True):
        x = act(x + norm(convolution(x)))
    expected = network[-1](F.max_pool2d(x, 2).mean((2, 3)))
    assert torch.allclose(network(images), expected, atol=1e-5)
    plain = build(parse(params | {"dense_layers": 0, "shortcut": False})[0])
    assert count_parameters(plain) == count_parameters(network)
    assert count_flops(plain) == count_flops(network)
