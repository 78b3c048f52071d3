"""A thousand real images."""

from pathlib import Path

import pytest
from small_trainings import part_of

from fmnist_hpo.data import Split, TrainingData, load_training


@pytest.fixture(scope="module")
def small(fashion_dir: Path) -> tuple[TrainingData, Split]:
    """1,000 real images."""
    return part_of(load_training(fashion_dir), 1000)
