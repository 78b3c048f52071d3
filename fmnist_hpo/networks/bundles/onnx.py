"""Exports networks to ONNX with all that is around them, and compares the outputs with torch's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmnist_hpo.bundle.onnx_session import open_model
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.process import torch_defaults

__all__ = ["Part", "to_onnx"]

TOLERANCE = 1e-4  # relative to the largest logit: several hundred roundings of float32
BATCH = 256  # images per forward pass of the comparison


@dataclass(frozen=True, kw_only=True)
class Part:
    """A network of a model, the normalisation before it, and its weight in the sum of logits."""

    network: nn.Module  # float32, on the CPU
    mean: float  # of images / 255
    deviation: float
    weight: float


class _Whole(nn.Module):
    """The weighted sum of networks' logits, of grey values 0 to 255."""

    def __init__(self, parts: Sequence[Part], *, flip: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(part.network for part in parts)
        self.factors = [
            (1 / (255 * part.deviation), -part.mean / part.deviation, part.weight) for part in parts
        ]
        self.flip = flip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, rows, columns), float32, 0 to 255 -> logits (n, classes)."""
        if not self.flip:
            return self._logits(images)
        both = self._logits(torch.cat([images, images.flip(3)]))
        return both.reshape(2, -1, both.shape[1]).mean(0)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        terms = [
            network(images * scale + shift) * weight
            for network, (scale, shift, weight) in zip(self.networks, self.factors, strict=True)
        ]
        total: torch.Tensor = sum(terms[1:], start=terms[0])
        return total


@torch_defaults()
def to_onnx(parts: Sequence[Part], *, flip: bool, images: NDArray[np.uint8]) -> bytes:
    """Export networks as one ONNX model and compare ONNX Runtime's logits with torch's.

    The model's input `images` is (n, 1, rows, columns), float32, 0 to 255, for any n. It is
    normalised as (images / 255 - mean) / deviation. The output `logits`, (n, classes), is the sum
    of the parts' logits by their weights.

    Args:
        parts: their networks are switched to evaluation mode.
        flip: whether the logits are the mean over the image and its mirror image.
        images: (m, rows, columns), m >= 1, for the comparison.

    Returns:
        The serialised model.

    Raises:
        InputError: the logits differ by more than rounding explains.
    """
    wrapped = _Whole(parts, flip=flip).eval()
    wrapped.to(memory_format=torch.contiguous_format)
    model = _translate(wrapped, images.shape[1:])
    expected = _torch_logits(wrapped, images)
    run = open_model(model, image_size=images.shape[1:], where="the exported model.onnx")
    difference = np.abs(run(images) - expected).max()
    allowed = TOLERANCE * max(1.0, np.abs(expected).max())
    if not difference <= allowed:  # also when it is NaN
        raise InputError(
            f"need an ONNX model whose logits equal torch's within {allowed:.1g}, got a difference "
            f"of {difference:.3g} on {len(images)} images; install other versions of torch and onnx"
        )
    return model


def _translate(network: nn.Module, image_size: tuple[int, ...]) -> bytes:
    example = torch.zeros(2, 1, *image_size)  # torch.export would fix a batch size of 1
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("n")}},
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # source lines and paths of this machine
    return bytes(model.SerializeToString())


def _torch_logits(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        batches = [
            network(torch.from_numpy(images[start : start + BATCH, None].astype(np.float32)))
            for start in range(0, len(images), BATCH)
        ]
    logits: NDArray[np.float32] = torch.cat(batches).numpy()
    return logits
