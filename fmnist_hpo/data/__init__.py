"""Fashion-MNIST: its files, its splits, and images that users bring."""

from fmnist_hpo.data.dataset import (
    CLASSES,
    Examples,
    TrainingData,
    expanded,
    find,
    load_training,
    look,
)
from fmnist_hpo.data.files import FILES, verify
from fmnist_hpo.data.splits import Split, folds, part, split

__all__ = [
    "CLASSES",
    "FILES",
    "Examples",
    "Split",
    "TrainingData",
    "expanded",
    "find",
    "folds",
    "load_training",
    "look",
    "part",
    "split",
    "verify",
]
