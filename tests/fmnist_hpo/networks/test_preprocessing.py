"""Normalisation against float64, and precisions against each other."""

import dataclasses
import math
import platform
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmnist_hpo.data import Split, TrainingData, load_training, split
from fmnist_hpo.networks.config import CNNConfig, TrainingConfig
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.preprocessing import Preprocessing, bf16_is_fast, normalization


@pytest.fixture(scope="module")
def data(fashion_dir: Path) -> TrainingData:
    return load_training(fashion_dir)


def test_standard_is_the_training_parts_mean_and_deviation(data: TrainingData) -> None:
    part = split(data)
    pixels = data.images[part.train] / 255
    expected = (pixels.mean(), pixels.std())
    assert normalization("standard", data, part) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx((0.286, 0.353), abs=0.001)  # known of Fashion-MNIST


def test_symmetric_and_a_single_grey(data: TrainingData) -> None:
    part = split(data)
    assert normalization("symmetric", data, part) == (0.5, 0.5)
    grey = dataclasses.replace(data, images=np.full_like(data.images, 51))
    assert normalization("standard", grey, part) == (0.2, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_network_sees(data: TrainingData, dtype: torch.dtype) -> None:
    images = torch.from_numpy(np.array(data.images[:50]))
    seen = Preprocessing(mean=0.5, deviation=0.5, dtype=dtype).logits(nn.Identity(), images)
    expected = images.double().unsqueeze(1) / 127.5 - 1
    assert seen.dtype is torch.float32
    # One rounding: half a unit in the last of 8 (bf16) or 24 bits.
    tolerance = 2**-9 if dtype is torch.bfloat16 else 2**-23
    torch.testing.assert_close(seen.double(), expected, rtol=2 * tolerance, atol=1e-7)


@pytest.mark.slow
def test_bf16_is_close_to_fp32(data: TrainingData) -> None:
    torch.manual_seed(0)
    network = build(CNNConfig(batch_norm=True)).eval()
    images = torch.from_numpy(np.array(data.images[:500]))
    with torch.inference_mode():
        results = [
            Preprocessing.of(TrainingConfig(precision=precision), 0.5, 0.5).logits(network, images)
            for precision in ("fp32", "bf16")
        ]
    scale = float(results[0].std())
    error = float((results[0] - results[1]).abs().max())
    assert 0 < error < 0.05 * scale


@pytest.mark.slow
def test_auto_takes_what_multiplies_faster_here() -> None:
    auto = Preprocessing.of(TrainingConfig(), 0.5, 0.5).dtype
    assert (auto is torch.bfloat16) == bf16_is_fast()
    if torch.cuda.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return  # the rule for processors is measured on x86 only
    # In turn, and the best of many: a neighbour on the core slows some, not all.
    factors = {
        dtype: torch.ones(768, 768, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    best = dict.fromkeys(factors, math.inf)
    for _ in range(20):
        for dtype, factor in factors.items():
            started = time.perf_counter()
            torch.mm(factor, factor)
            best[dtype] = min(best[dtype], time.perf_counter() - started)
    faster = best[torch.float32] / best[torch.bfloat16]
    assert bf16_is_fast() == (faster > 1), f"bf16 is {faster:.2f} times as fast"


def test_fewer_pixels_than_one_count(data: TrainingData) -> None:
    few = Split(train=np.array([3, 5]), validation=np.array([], dtype=np.int64), hash="")
    pixels = data.images[[3, 5]] / 255
    assert normalization("standard", data, few) == pytest.approx((pixels.mean(), pixels.std()))
