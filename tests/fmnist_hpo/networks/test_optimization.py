"""Schedules go where they say; optimisers are torch's."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from schedulefree import AdamWScheduleFree
from torch import nn

from fmnist_hpo.networks.config import CNNConfig, TrainingConfig
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
    ("name", "kind", "arguments"),
    [
        ("adam", torch.optim.Adam, {}),
        ("adamw", torch.optim.AdamW, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.8}),
        ("schedule-free", AdamWScheduleFree, {}),
    ],
)
def test_steps_are_those_of_the_library(
    name: str, kind: type[Any], arguments: dict[str, float]
) -> None:
    config = TrainingConfig(optimizer=name, weight_decay=0.02, momentum=0.8)
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        build_optimizer(ours, config),
        kind(theirs.parameters(), weight_decay=0.02, **arguments),
    ]
    for network, optimizer in zip((ours, theirs), optimizers, strict=True):
        if name == "schedule-free":
            optimizer.train()  # type: ignore[attr-defined]
        for step in range(4):
            optimizer.zero_grad()
            network(torch.eye(5) * (step + 1)).square().sum().backward()
            (group,) = optimizer.param_groups
            group["lr"] = 0.01 * (step + 1)
            optimizer.step()
    assert optimizers[0].state_dict().keys() == optimizers[1].state_dict().keys()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.process
def test_a_training_process_loads_no_compiler() -> None:
    """It would take three seconds of each."""
    code = """
import sys, torch
from torch import nn
from fmnist_hpo.networks.config import TrainingConfig
from fmnist_hpo.networks.optimization import build_optimizer
for name in "adam", "adamw", "sgd", "muon", "schedule-free":
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    network = network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, TrainingConfig(optimizer=name))
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.ones(3, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    print(name, [m for m in ("torch._dynamo", "torch._inductor") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = [f"{name} []" for name in ("adam", "adamw", "sgd", "muon", "schedule-free")]
    assert (done.stdout.splitlines(), done.returncode) == (lines, 0), done.stderr


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
