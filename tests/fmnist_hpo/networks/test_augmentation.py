"""Whole-batch augmentation against one image at a time in numpy, on real images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist_hpo.data import load_training
from fmnist_hpo.networks.augmentation import (
    ERASED_SHARE,
    augment,
    erase,
    flip,
    mixup,
    resize,
    shift,
)
from fmnist_hpo.networks.config import TrainingConfig


@pytest.fixture(scope="module")
def images(fashion_dir: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(load_training(fashion_dir).images[:2000]))


def test_flip(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    flipped = 0
    for before, after in zip(images.numpy(), flip(images).numpy(), strict=True):
        mirrored = np.array_equal(after, before[:, ::-1])
        assert mirrored or np.array_equal(after, before)
        flipped += mirrored
    assert 850 < flipped < 1150  # six standard deviations around a half


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:  # type: ignore[type-arg]
    result = np.zeros_like(image)
    for row in range(28):
        for column in range(28):
            if 0 <= row - down < 28 and 0 <= column - right < 28:
                result[row, column] = image[row - down, column - right]
    return result


def test_shift(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    offsets = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    seen = set()
    for before, after in zip(images[:300].numpy(), shift(images[:300], 1).numpy(), strict=True):
        matching = [o for o in offsets if np.array_equal(after, moved(before, *o))]
        assert matching
        seen.update(matching[:1])
    assert seen == set(offsets)


def test_erase(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    lit = images.clamp(min=1)
    erased = erase(lit, 0.3)
    changed = 0
    for before, after in zip(lit.numpy(), erased.numpy(), strict=True):
        rows, columns = np.nonzero(after == 0)
        if not len(rows):
            assert np.array_equal(after, before)
            continue
        changed += 1
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        expected = before.copy()
        expected[box] = 0
        assert np.array_equal(after, expected)  # one rectangle and nothing else
        height, width = after[box].shape
        assert abs(height - width) <= 1  # a square, on the grid of pixels
        low, high = (int(np.sqrt(share * 784)) for share in ERASED_SHARE)
        assert low <= height <= high + 1
    assert 480 < changed < 720  # six standard deviations around 600


def test_augment_does_what_is_configured(images: torch.Tensor) -> None:
    assert augment(images, TrainingConfig()) is images
    torch.manual_seed(0)
    config = TrainingConfig(flip=True, shift=2, erase=0.5)
    result = augment(images, config)
    assert result.shape == images.shape
    assert result.dtype is torch.uint8
    torch.manual_seed(0)
    assert torch.equal(result, erase(shift(flip(images), 2), 0.5))


def test_flip_of_given_images(images: torch.Tensor) -> None:
    mirrored = torch.arange(len(images)) % 3 == 0
    result = flip(images, mirrored)
    assert torch.equal(result[mirrored], images[mirrored].flip(2))
    assert torch.equal(result[~mirrored], images[~mirrored])
    config = TrainingConfig(flip=True, flip_in_turn=True)
    assert torch.equal(augment(images, config, mirrored), result)


def test_mixup_by_next_to_nothing(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    for alpha in (5e-324, 1e-50, 1e-6, 0.003, 0.01, 0.03):
        shares = [mixup(images[:50], alpha)[2] for _ in range(300)]
        drawn = np.random.default_rng(0).beta(alpha, alpha, 10_000)
        expected = np.nanmean(np.maximum(drawn, 1 - drawn)) if alpha > 1e-10 else 1.0
        assert np.mean(shares) == pytest.approx(expected, abs=0.01)


def test_mixup(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    shares = []
    for _ in range(200):
        mixed, other, share = mixup(images[:50], 0.4)
        expected = share * images[:50].double() + (1 - share) * images[:50][other].double()
        assert torch.allclose(mixed.double(), expected, atol=1e-3)
        assert mixed.dtype is torch.float32
        assert sorted(other.tolist()) == list(range(50))
        shares.append(share)
    assert 0.5 <= min(shares) < max(shares) <= 1
    drawn = np.random.default_rng(0).beta(0.4, 0.4, 100_000)
    assert np.mean(shares) == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.05)


@pytest.mark.parametrize("size", [(14, 14), (20, 20), (9, 23)])
def test_resize_is_pillows(images: torch.Tensor, size: tuple[int, int]) -> None:
    made = resize(images[:100], size)
    assert made.shape == (100, *size)
    for before, after in zip(images[:100].numpy(), made.numpy(), strict=True):
        expected = Image.fromarray(before.astype(np.float32)).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(after, np.array(expected), atol=1e-3)
