"""Predictions by ONNX Runtime, against torch's, and without torch."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.kinds import logits
from fmnist_hpo.bundle.predict import predict
from fmnist_hpo.data.images import read_images
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import softmax

if TYPE_CHECKING:
    from conftest import Trained


def test_classes_are_torchs(exported: Bundle, trained: "Trained") -> None:
    images = trained.data.images[trained.split.validation]
    predictions = predict(exported, images)
    expected = softmax(logits(exported, images), exported.config.readout.temperature)
    assert len(predictions) == len(images)
    for prediction, row in zip(predictions, expected, strict=True):
        given = [prediction.probabilities[name] for name in exported.config.classes]
        assert given == pytest.approx(list(row), abs=0.03)  # torch's may be in bf16
        best = np.sort(row)
        if best[-1] - best[-2] > 0.06:
            assert prediction.name == exported.config.classes[row.argmax()]


def test_probabilities_come_sorted_and_sum_to_one(exported: Bundle, trained: "Trained") -> None:
    for prediction in predict(exported, trained.data.images[:20]):
        values = list(prediction.probabilities.values())
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)
        assert next(iter(prediction.probabilities)) == prediction.name
        assert prediction.probabilities.keys() == set(exported.config.classes)


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 600])
def test_batches_of_any_size(exported: Bundle, trained: "Trained", count: int) -> None:
    images = trained.data.images[:count]
    predictions = predict(exported, images)
    assert len(predictions) == count
    if count:
        (alone,) = predict(exported, images[-1:])
        assert alone.name == predictions[-1].name
        assert alone.probabilities == pytest.approx(predictions[-1].probabilities, abs=1e-5)


@pytest.mark.parametrize("shape", [(28, 28), (3, 27, 28), (3, 1, 28, 28)])
def test_images_of_another_shape_are_refused(exported: Bundle, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"need images \(n, 28, 28\), got"):
        predict(exported, np.zeros(shape, np.uint8))


def test_from_file_to_class_without_torch(
    exported: Bundle, trained: "Trained", tmp_path: Path
) -> None:
    np.save(tmp_path / "clothes.npy", trained.data.images[:30])
    program = (
        "import sys; from pathlib import Path\n"
        "from fmnist_hpo.bundle import Bundle\n"
        "from fmnist_hpo.data.images import read_images\n"
        "from fmnist_hpo.bundle.predict import predict\n"
        "bundle = Bundle.open(Path(sys.argv[1]))\n"
        "images = read_images([Path(sys.argv[2])], bundle.config.image_size)\n"
        "print(*[one.name for one in predict(bundle, images.pixels)], sep='\\n')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, exported.path, tmp_path / "clothes.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    images = read_images([tmp_path / "clothes.npy"], exported.config.image_size)
    assert done.stdout.split("\n")[:-1] == [one.name for one in predict(exported, images.pixels)]
    assert done.stderr == ""
