"""What is said of a network before it is trained."""

import dataclasses
from pathlib import Path

import pytest
import torch

from fmnist_hpo.data import load_training, split
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, NetworkConfig, TrainingConfig
from fmnist_hpo.networks.models import build, count_flops
from fmnist_hpo.networks.probe import flops, measure_step, remarks


@pytest.mark.parametrize(
    "network", [ANNConfig(), CNNConfig(batch_norm=True), CNNConfig(whitening=True, init="identity")]
)
def test_flops_without_computing_are_those_of_the_network(network: NetworkConfig) -> None:
    assert flops(network, (28, 28), 10) == count_flops(build(network), (28, 28)) > 0


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("convolutions", "pool_after"), [(1, "last"), (1, "first"), (2, "last"), (3, "first")]
)
def test_a_remark_is_made_where_weights_meet_padding_only(
    blocks: int, kernel_size: int, convolutions: int, pool_after: str, whitening: bool
) -> None:
    """Such weights have no gradient, whatever the image and the loss."""
    network = CNNConfig(
        channels=(4,) * blocks,
        dropout=(0.0,) * blocks,
        kernel_size=kernel_size,
        convolutions=convolutions,
        pool_after=pool_after,
        whitening=whitening,
        activation="elu",
    )
    torch.manual_seed(0)
    built = build(network)
    for index, layer in enumerate(built):
        if isinstance(layer, torch.nn.MaxPool2d):  # the mean sees all that the maximum may see
            built[index] = torch.nn.AvgPool2d(2)
    built(torch.rand(64, 1, 28, 28)).square().sum().backward()
    kernels = [layer.weight.grad for layer in built if type(layer) is torch.nn.Conv2d]
    idle = [int((kernel.abs().amax((0, 1)) == 0).sum()) for kernel in kernels]
    said = remarks(network, (28, 28))
    assert len(said) == int(any(idle))
    if said:
        index = next(i for i, number in enumerate(idle) if number)
        assert said[0].startswith(f"block {index // convolutions + 1} of {blocks} sees maps of ")
        assert f"where {idle[index]} of the {kernel_size**2} weights" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("network", [ANNConfig(hidden_units=(32, 16)), CNNConfig(channels=(4, 8))])
def test_an_epoch_is_measured(network: NetworkConfig, fashion_dir: Path) -> None:
    whole = load_training(fashion_dir)
    data = dataclasses.replace(whole, images=whole.images[:3000], labels=whole.labels[:3000])
    for fraction in (0.2, 0.0):  # as it is validated, and as it is refit
        part = split(data, validation_fraction=fraction)
        for config in (TrainingConfig(schedule="one-cycle"), TrainingConfig(report_every=0.25)):
            cost = measure_step(network, config, data, part)
            assert cost.step_seconds > 0
            assert cost.start_seconds > 0
            assert 0 < cost.share <= 1
