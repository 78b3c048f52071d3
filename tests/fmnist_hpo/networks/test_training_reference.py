"""Trainings against a plain loop and the published optimiser, and what must be learnt."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import FREE_ANN, curve, part_of
from torch.nn import functional as F

from fmnist_hpo.data import Split, TrainingData, load_training, split
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig, parse
from fmnist_hpo.networks.loop import Loop
from fmnist_hpo.networks.models import build


def test_schedule_free_is_the_published_method(fashion_dir: Path) -> None:
    """Against the paper's three sequences x, y, z, computed one by one in float64."""
    data, part = part_of(load_training(fashion_dir), 400)
    params = FREE_ANN | {"batch_norm": False, "dropout": 0.0, "precision": "fp32", "epochs": 1}
    network_config, config = parse(params | {"weight_decay": 0.1, "learning_rate": 0.01})
    result = training.train(network_config, config, data, part, seed=5)
    loop = Loop(network_config, config, data, part, 5, torch.device("cpu"))
    network = loop.network.double()
    z = [p.detach().clone() for p in network.parameters()]
    x, squares = [p.clone() for p in z], [torch.zeros_like(p) for p in z]
    for step in range(loop.batches):
        indices = loop.order(0)[step * 64 : (step + 1) * 64]
        inputs = loop.images[indices].double().div(127.5).sub(1).unsqueeze(1)
        y = list(network.parameters())
        with torch.no_grad():
            for p, one, other in zip(y, z, x, strict=True):
                p.copy_(0.1 * one + 0.9 * other)
        gradients = torch.autograd.grad(F.cross_entropy(network(inputs), loop.labels[indices]), y)
        with torch.no_grad():
            for p, g, one, other, v in zip(y, gradients, z, x, squares, strict=True):
                v.mul_(0.999).add_(0.001 * g**2)
                moved = g / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8) + 0.1 * p
                one.sub_(0.01 * moved)
                other.add_((one - other) / (step + 1))
    for mine, expected in zip(result.weights.values(), x, strict=True):
        assert torch.allclose(mine.double(), expected, atol=1e-4)


def plain_loop(
    network_config: NetworkConfig,
    config: TrainingConfig,
    data: TrainingData,
    part: Split,
    seed: int,
) -> list[tuple[float, float, float, float]]:
    """Case 4's loop: float32, contiguous tensors, unfused optimiser, a sync after every batch."""
    torch.manual_seed(seed)
    network = build(network_config)
    rate, parameters = config.learning_rate, network.parameters()
    optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=rate, foreach=False)
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, foreach=False)
    images = torch.from_numpy(data.images / np.float32(127.5) - np.float32(1)).unsqueeze(1)
    labels = torch.from_numpy(data.labels)
    rows = []
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = part.train[torch.randperm(len(part.train), generator=generator).numpy()]
        losses, hits = [], 0
        network.train()
        for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
            batch = torch.from_numpy(order[start : start + config.batch_size])
            logits = network(images[batch])
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            hits += int((logits.argmax(1) == labels[batch]).sum())
        network.eval()
        with torch.no_grad():
            logits = network(images[part.validation])
            held_out = labels[part.validation]
            val_loss = F.cross_entropy(logits.double(), held_out).item()
            val_accuracy = float((logits.argmax(1) == held_out).double().mean())
        train_accuracy = hits / (len(losses) * config.batch_size)
        rows.append((sum(losses) / len(losses), train_accuracy, val_loss, val_accuracy))
    return rows


# Adam's first steps have the size of the rate whatever the gradient's, so that it turns a rounding
# error in a small gradient into a step; SGD does not, and can be compared closely.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "tolerance"),
    [
        ({"family": "ann", "hidden_units": 64, "batch_norm": True}, 1e-2),
        ({"family": "ann", "hidden_units": 64, "batch_norm": True, "optimizer": "sgd"}, 1e-3),
        ({"family": "cnn", "channels": 8, "dense_units": 16}, 1e-2),
        ({"family": "cnn", "channels": 8, "batch_norm": True, "optimizer": "sgd"}, 1e-3),
    ],
    ids=["ann-adam", "ann-sgd", "cnn-adam", "cnn-sgd"],
)
def test_equal_to_a_plain_float32_loop(
    fashion_dir: Path, params: dict[str, Any], tolerance: float
) -> None:
    data, part = part_of(load_training(fashion_dir), 3000)
    network, config = parse(params | {"epochs": 2, "precision": "fp32"})
    ours = curve(training.train(network, config, data, part, seed=3).history)
    expected = plain_loop(network, config, data, part, 3)
    for row, (train_loss, train_accuracy, val_loss, val_accuracy) in zip(
        ours, expected, strict=True
    ):
        assert row[0] == pytest.approx(train_loss, rel=tolerance)
        assert row[1] == pytest.approx(train_accuracy, abs=1e-2)
        assert row[2] == pytest.approx(val_loss, rel=tolerance)
        assert row[3] == pytest.approx(val_accuracy, abs=1e-2)


@pytest.mark.slow
def test_bf16_learns_like_fp32(fashion_dir: Path) -> None:
    data, part = part_of(load_training(fashion_dir), 5000)
    params = {"family": "cnn", "channels": 16, "epochs": 2}
    losses = [
        training.train(*parse(params | {"precision": precision}), data, part, seed=0).history[-1]
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1].train_loss == pytest.approx(losses[0].train_loss, rel=0.03)


def test_memorises_a_few_images(fashion_dir: Path) -> None:
    data, _ = part_of(load_training(fashion_dir), 100)
    everything = split(data, validation_fraction=0.0)
    params = {"family": "ann", "epochs": 60, "batch_size": 20, "normalization": "standard"}
    result = training.train(*parse(params), data, everything, seed=0)
    last = result.history[-1]
    assert last.train_accuracy == 1.0
    assert last.train_loss < 0.05
    assert last.val_loss is None
    assert last.val_accuracy is None
    assert math.isnan(result.val_accuracy)
