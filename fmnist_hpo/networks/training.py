"""One run: a configuration, a seed and a split to a curve and the last epoch's weights.

Deterministic given seed, threads and machine: a run that is interrupted after any batch and
resumed from its checkpoint gives the same weights and curve, bit for bit on a CPU.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from fmnist_hpo.data import Examples, Split
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.allocator import keep_freed_memory
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig
from fmnist_hpo.networks.loop import (
    Diverged,
    EpochMetrics,
    Interrupted,
    Loop,
    read_part,
    read_state,
)
from fmnist_hpo.networks.preprocessing import Preprocessing

__all__ = [
    "Diverged",
    "EpochMetrics",
    "Interrupted",
    "Save",
    "TrainResult",
    "history",
    "memory_errors",
    "train",
    "weights",
]

Save = Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The end of a run."""

    weights: Mapping[str, Tensor]  # on the CPU, as `nn.Module.load_state_dict` takes them
    history: tuple[EpochMetrics, ...]
    checkpoint: bytes

    @property
    def val_accuracy(self) -> float:
        """Of the last epoch; NaN without a validation part."""
        last = self.history[-1].val_accuracy
        return math.nan if last is None else last


def train(
    network_config: NetworkConfig,
    config: TrainingConfig,
    data: Examples,
    split: Split,
    *,
    seed: int,
    resume: bytes | None = None,
    start: bytes | None = None,
    preprocessing: Preprocessing | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[int, EpochMetrics, Save], None] = lambda epoch, metrics, save: None,
) -> TrainResult:
    """Train a network from its first weights, or from a checkpoint, to its last epoch.

    On the GPU where there is one. The images that are left when an epoch is cut into batches are
    not used in that epoch. The caller's random generators are left as they were.

    Args:
        seed: decides first weights, order of the images, augmentation and dropout.
        resume: what an earlier run with the same arguments saved.
        start: a checkpoint of another run of the same network and optimiser, whose weights and
            moments this one begins with.
        preprocessing: None for what `config` says, measured on the training part.
        should_stop: asked after every batch.
        on_epoch: called after each epoch trained here with its number from 1, its figures and a
            function that gives a checkpoint; what it raises ends the training.

    Raises:
        Interrupted: `should_stop` turned true.
        Diverged: an epoch's loss is not finite.
        InputError: fewer than two images to train on, or a checkpoint of another run.
        MemoryError: the machine or the GPU has no memory left.
    """
    if len(split.train) < 2:
        raise InputError(
            f"need at least 2 images to train on, got {len(split.train)}; "
            "use a larger data set or a smaller validation_fraction"
        )
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), memory_errors():
        torch.manual_seed(seed)
        loop = Loop(network_config, config, data, split, seed, device, preprocessing)
        if start is not None:
            loop.begin_from(start)
        if resume is not None:
            loop.restore(resume)
        while loop.epoch < config.epochs:
            metrics = loop.run_epoch(should_stop)
            on_epoch(loop.epoch, metrics, loop.checkpoint)
        return TrainResult(
            weights=loop.weights(), history=tuple(loop.history), checkpoint=loop.checkpoint()
        )


def history(checkpoint: bytes) -> tuple[EpochMetrics, ...]:
    """The figures of the epochs that a checkpoint has behind it."""
    return tuple(EpochMetrics(**row) for row in read_state(checkpoint)["history"])


def weights(checkpoint: bytes) -> dict[str, Tensor]:
    """The network's state in a checkpoint."""
    return read_part(safetensors.torch.load(checkpoint), "network.")


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn torch's ways to run out of memory, on a GPU and on a CPU, into Python's."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(
            error
        ):
            raise
        said = str(error).partition("\n")[0]
        raise MemoryError(f"{said}; use a smaller batch_size or a smaller network") from error
