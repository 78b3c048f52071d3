"""Exports a network to ONNX with its normalisation, and verifies the outputs against torch's."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmnist_hpo.bundle.onnx_session import open_model
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.process import torch_defaults

__all__ = ["to_onnx"]

TOLERANCE = 1e-4  # relative to the largest logit: several hundred roundings of float32
BATCH = 256  # images per forward pass of the comparison


class _Normalised(nn.Module):
    """A network with its normalisation in front, for grey values of 0 to 255."""

    def __init__(self, network: nn.Module, mean: float, deviation: float) -> None:
        super().__init__()
        self.network = network
        self.scale, self.shift = 1 / (255 * deviation), -mean / deviation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, rows, columns), float32, 0 to 255 -> logits (n, classes)."""
        logits: torch.Tensor = self.network(images * self.scale + self.shift)
        return logits


@torch_defaults()
def to_onnx(
    network: nn.Module, *, mean: float, deviation: float, images: NDArray[np.uint8]
) -> bytes:
    """Export a network to ONNX and compare ONNX Runtime's logits with torch's on real images.

    The model's input `images` is (n, 1, rows, columns), float32, 0 to 255, for any n. It is
    normalised as (images / 255 - mean) / deviation. The output `logits` is (n, classes).

    Args:
        network: float32, on the CPU; it is switched to evaluation mode.
        images: (m, rows, columns), m >= 1, for the comparison.

    Returns:
        The serialised model.

    Raises:
        InputError: the logits differ by more than rounding explains.
    """
    wrapped = _Normalised(network, mean, deviation).eval()
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
