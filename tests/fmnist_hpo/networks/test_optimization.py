"""Schedules go where they say; optimisers are torch's."""

import math

import pytest
import torch

from fmnist_hpo.networks.config import ANNConfig, CNNConfig, TrainingConfig
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.optimization import build_optimizer, learning_rate


def rates(schedule: str, steps: int) -> list[float]:
    config = TrainingConfig(learning_rate=0.1, schedule=schedule)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_cosine_is_torchs() -> None:
    steps = 50
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 1)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates("cosine", steps) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_rises_then_falls() -> None:
    curve = rates("one-cycle", 401)
    assert curve[0] == pytest.approx(0.01)
    assert curve[100] == max(curve) == pytest.approx(0.1)
    assert curve[-1] == pytest.approx(0.0001)
    assert curve[:101] == sorted(curve[:101])
    assert curve[100:] == sorted(curve[100:], reverse=True)


def test_step_and_constant() -> None:
    curve = rates("step", 401)
    assert [curve[0], curve[199], curve[200], curve[299], curve[300], curve[400]] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert set(rates("constant", 10)) == {0.1}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "step"])
def test_a_run_of_one_step(schedule: str) -> None:
    (rate,) = rates(schedule, 1)
    assert 0 < rate <= 0.1
    assert math.isfinite(rate)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimizers(name: str, kind: type[torch.optim.Optimizer]) -> None:
    config = TrainingConfig(optimizer=name, weight_decay=0.02, momentum=0.8)
    optimizer = build_optimizer(build(ANNConfig()), config)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 0.02
    assert group.get("momentum", 0.8) == 0.8


def test_muon_makes_the_steps_of_kernels_and_hidden_layers_orthogonal() -> None:
    """The first step of a kernel against the polar factor of its gradient, in float64."""
    torch.manual_seed(0)
    network = build(CNNConfig(channels=(8, 16), dense_units=(12,))).to(
        memory_format=torch.channels_last
    )
    optimizer = build_optimizer(network, TrainingConfig(optimizer="muon"))
    optimizer.param_groups[0]["lr"] = 0.01
    names = [name for name, _ in network.named_parameters()]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network(torch.randn(64, 1, 28, 28)).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}  # type: ignore[union-attr]
    optimizer.step()
    for name, parameter in network.named_parameters():
        step = before[name] - parameter.detach()
        if parameter.ndim == 1 or name == names[-2]:  # AdamW's first step has the rate's size
            moved = gradients[name].abs() > 1e-6
            assert torch.allclose(step.abs()[moved], torch.tensor(0.01), rtol=0.05)
            continue
        # Newton and Schulz's iteration leaves singular values between 0.5 and 1.5.
        gradient = gradients[name].flatten(1).double()
        u, size, v = torch.linalg.svd(gradient, full_matrices=False)
        scale = 0.01 * 0.2 * max(gradient.shape) ** 0.5
        singular = (u.T @ step.flatten(1).double() @ v.T / scale).diagonal()
        large = size > size[0] / 30
        assert ((singular[large] > 0.4) & (singular[large] < 1.6)).all(), name
        assert step.flatten(1).norm() < 1.6 * scale * len(size) ** 0.5
