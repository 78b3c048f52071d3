"""Whatever the form of a picture, a model recognises it as well as the plain image."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predict import predict
from fmnist_hpo.data import CLASSES, load_training
from fmnist_hpo.data.images import read_images

if TYPE_CHECKING:
    from conftest import Trained


SIZE = (28, 28)


@pytest.fixture(scope="module")
def plain(trained: "Trained", fashion_dir: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """100 real training images that the network of `trained` was not trained on."""
    data = load_training(fashion_dir)
    return np.array(data.images[20_000:20_100]), data.labels[20_000:20_100]


def cut_out(image: NDArray[np.uint8], shown: NDArray[np.uint8]) -> Image.Image:
    alpha = np.where(image > 0, 255, 0).astype(np.uint8)
    return Image.fromarray(np.stack([shown, shown, shown, alpha], axis=-1))


def turned(image: NDArray[np.uint8]) -> Image.Image:
    """As a camera held sideways stores it; the orientation is in the EXIF data."""
    return Image.fromarray(np.rot90(image).copy())


TRANSFORMS: dict[str, Callable[[NDArray[np.uint8]], Image.Image]] = {
    "cut out": lambda image: cut_out(image, image),
    "cut out of its negative": lambda image: cut_out(image, 255 - image),
    "opacity alone": lambda image: Image.fromarray(
        np.stack([np.full_like(image, 255), image], axis=-1)
    ),
    "inverted": lambda image: Image.fromarray(255 - image),
    "16 bits": lambda image: Image.fromarray(image.astype(np.uint16) * 257),
    "palette": lambda image: Image.fromarray(image).convert("P"),
    "enlarged": lambda image: Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC),
    "turned": turned,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
def test_accuracy_holds_whatever_the_pictures_form(
    exported: Bundle, plain: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path: Path, name: str
) -> None:
    """The margin is three images of 100."""
    images, labels = plain
    exif = Image.Exif()
    if name == "turned":
        exif[0x0112] = 6  # to be turned clockwise
    paths = [tmp_path / f"{index}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        TRANSFORMS[name](image).save(path, exif=exif)
    read = read_images(paths, SIZE)
    assert read.refused == ()

    def accuracy(pixels: NDArray[np.uint8]) -> float:
        found = [CLASSES.index(one.name) for one in predict(exported, pixels)]
        return float(np.mean(np.array(found) == labels))

    expected = accuracy(images)
    assert expected > 0.6
    assert accuracy(read.pixels) >= expected - 0.03
    if name == "turned":
        assert all("turned upright" in "; ".join(steps) for steps in read.steps)
