"""The real data set, one network trained on a slice of it, and a folder that is closed to us."""

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fmnist_hpo.bundle import Bundle, Provenance
from fmnist_hpo.bundle.calibration import Flip
from fmnist_hpo.bundle.export import export
from fmnist_hpo.data import Split, TrainingData, find, load_training, split, verify
from fmnist_hpo.networks.bundles.network import build_model
from fmnist_hpo.networks.config import CNNConfig, TrainingConfig

if TYPE_CHECKING:
    from fmnist_hpo.networks.training import TrainResult


@pytest.fixture(scope="session")
def fashion_dir() -> Path:
    """The directory of the four verified files of Fashion-MNIST."""
    directory = find()
    verify(directory)
    return directory


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter; root is another user meanwhile."""
    folder = tmp_path / "closed"
    (folder / "inside").mkdir(parents=True)
    folder.chmod(0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A small network after two epochs on 4,000 real images, and all it came from."""

    network: CNNConfig
    training: TrainingConfig
    data: TrainingData
    split: Split
    result: "TrainResult"
    provenance: Provenance

    def export(self, directory: Path, *, flip: Flip = "no") -> Bundle:
        """Write its bundle."""
        model = build_model(self.network, self.training, self.result, self.data, self.split)
        return export(
            directory,
            model,
            data=self.data,
            split=self.split,
            provenance=self.provenance,
            flip=flip,
        )


@pytest.fixture(scope="session")
def trained(fashion_dir: Path) -> Trained:
    """Trained once for all tests."""
    from fmnist_hpo.networks.training import train

    network = CNNConfig(
        channels=(8, 16), dropout=(0.0, 0.1), batch_norm=True, activation="gelu", dense_units=()
    )
    training = TrainingConfig(epochs=2, batch_size=64, normalization="standard", flip=True)
    whole = load_training(fashion_dir)
    data = dataclasses.replace(whole, images=whole.images[:5000], labels=whole.labels[:5000])
    part = split(data)
    result = train(network, training, data, part, seed=1)
    assert result.val_accuracy is not None
    provenance = Provenance(
        study="small",
        study_uid="0123",
        trial=3,
        params={"family": "cnn", "channels_0": 8, "channels_1": 16},
        seed=1,
        value=result.val_accuracy,
        spec_hash="0" * 64,
        git_commit=None,
        environment={"torch": "2", "processor": "a processor | with a bar"},
        refit=False,
        folds=None,
        tuned_on=len(data.labels),
        trained_on=len(part.train),
    )
    return Trained(
        network=network,
        training=training,
        data=data,
        split=part,
        result=result,
        provenance=provenance,
    )


@pytest.fixture(scope="session")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of `trained`, for tests that only read it."""
    return trained.export(tmp_path_factory.mktemp("exported") / "bundle")
