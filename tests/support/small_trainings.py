"""Configurations of every kind of training, and runs of them that are cut off somewhere."""

import dataclasses
from typing import Any

import pytest
import torch

from fmnist_hpo.data import Split, TrainingData, split
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse

__all__ = [
    "ANN",
    "BATCHES",
    "CNN",
    "CNN_ADAM",
    "DEEP",
    "FREE",
    "FREE_ANN",
    "MUON",
    "PATIENT",
    "RESIZED",
    "WHITENED",
    "StopAfter",
    "assert_same",
    "curve",
    "interrupted",
    "part_of",
]

ANN: dict[str, Any] = {
    "family": "ann",
    "hidden_units": 32,
    "batch_norm": True,
    "dropout": 0.3,
    "epochs": 3,
    "schedule": "one-cycle",
}


CNN: dict[str, Any] = {
    "family": "cnn",
    "channels": 8,
    "dropout": 0.2,
    "dense_units": 16,
    "epochs": 3,
    "flip": True,
    "shift": 2,
    "erase": 0.5,
    "optimizer": "sgd",
    "label_smoothing": 0.1,
    "normalization": "standard",
}


CNN_ADAM = CNN | {"optimizer": "adamw", "weight_decay": 0.01, "batch_norm": True}


FREE = CNN | {"optimizer": "schedule-free", "weight_decay": 0.01, "batch_norm": True}


DEEP = CNN | {"convolutions": 2, "shortcut": True, "batch_norm": True, "flip_in_turn": True}


DEEP |= {"mixup": 0.4, "average": 0.9}


MUON = {"optimizer": "muon", "weight_decay": 0.01, "batch_norm": True}


RESIZED = FREE | {"head": "average", "resize": 0.5, "epochs": 3}


WHITENED = FREE | {"whitening": True, "init": "identity", "batch_norm_scale": False}


FREE_ANN = {**ANN, "optimizer": "schedule-free", "schedule": "constant"}


BATCHES = 12  # an epoch: 800 images to train on, 64 a batch


def part_of(data: TrainingData, n: int) -> tuple[TrainingData, Split]:
    small = dataclasses.replace(data, images=data.images[:n], labels=data.labels[:n])
    return small, split(small)


def curve(history: tuple[training.EpochMetrics, ...]) -> list[tuple[float | None, ...]]:
    return [(m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy) for m in history]


class StopAfter:
    """Asks to stop after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def interrupted(params: dict[str, Any], small: tuple[TrainingData, Split], batches: int) -> bytes:
    with pytest.raises(training.Interrupted) as caught:
        training.train(*parse(params), *small, seed=5, should_stop=StopAfter(batches))
    return caught.value.checkpoint


def assert_same(one: training.TrainResult, other: training.TrainResult) -> None:
    assert curve(one.history) == curve(other.history)
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name


PATIENT = ANN | {"patience": 2, "epochs": 40, "learning_rate": 0.01}
