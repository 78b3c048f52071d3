"""Dropout keeps its share and the mean and repeats with its seed; whitening whitens."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fmnist_hpo.networks.layers import Dropout, Whitening


def dropped(p: float, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = Dropout(p)(x)
    return result


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.999])
def test_share_and_scale(p: float) -> None:
    result = dropped(p, torch.ones(1000, 1000))
    kept = result != 0
    # Six standard deviations of the share among a million.
    assert abs(float(kept.float().mean()) - (1 - p)) < 6 * (p * (1 - p) / 1e6) ** 0.5 + 2**-16
    assert torch.allclose(result[kept], torch.tensor(1 / (1 - p)), rtol=0.01)


def test_values_are_independent() -> None:
    kept = (dropped(0.5, torch.ones(1000, 1000)) != 0).float() - 0.5
    for lag in range(1, 9):  # four values share one draw of 64 bits
        correlation = float((kept[:, lag:] * kept[:, :-lag]).mean()) / 0.25
        assert abs(correlation) < 6 / 1000


def test_the_gradient_is_the_mask() -> None:
    x = torch.ones(50, 30, requires_grad=True)
    result = dropped(0.3, x)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(x.grad, result.detach())  # type: ignore[arg-type]


def test_channels_last_bf16_of_odd_size() -> None:
    x = torch.ones(3, 5, 7, 7, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    result = dropped(0.5, x)
    assert result.dtype is torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert set(result.unique().tolist()) == {0.0, 2.0}


def test_seed_and_evaluation() -> None:
    x = torch.randn(64, 64)
    assert torch.equal(dropped(0.3, x, seed=1), dropped(0.3, x, seed=1))
    assert not torch.equal(dropped(0.3, x, seed=1), dropped(0.3, x, seed=2))
    assert torch.equal(Dropout(0.3).eval()(x), x)


def test_whitened_patches_are_uncorrelated() -> None:
    """Against NumPy: the values of the first four channels, over all places of all images."""
    torch.manual_seed(0)
    images = torch.rand(50, 1, 9, 12).cumsum(3) - 3  # neighbours are alike
    layer = Whitening()
    layer.fit(images)
    values = layer(images).detach().numpy()
    assert values.shape == (50, 8, 8, 11)
    assert np.allclose(values[:, 4:], -values[:, :4])
    by_channel = values[:, :4].transpose(1, 0, 2, 3).reshape(4, -1)
    moments = by_channel @ by_channel.T / by_channel.shape[1]
    patches = np.lib.stride_tricks.sliding_window_view(images[:, 0].numpy(), (2, 2), (1, 2))
    patches = patches.reshape(-1, 4)
    before = np.linalg.eigvalsh(patches.T @ patches / len(patches))
    assert np.allclose(moments, np.diag(before / (before + 5e-4)), atol=1e-4)


def test_images_without_any_contrast_are_whitened() -> None:
    layer = Whitening()
    layer.fit(torch.full((3, 1, 4, 4), -1.0))
    assert torch.isfinite(layer.weight).all()
