"""Fashion-MNIST: its files, its splits, and images that users bring."""

from fmnist_hpo.data.dataset import (
    CLASSES,
    FILES,
    Examples,
    Split,
    TrainingData,
    find,
    folds,
    load_training,
    look,
    part,
    split,
    verify,
)

__all__ = [
    "CLASSES",
    "FILES",
    "Examples",
    "Split",
    "TrainingData",
    "find",
    "folds",
    "load_training",
    "look",
    "part",
    "split",
    "verify",
]
