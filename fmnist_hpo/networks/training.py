"""One run: a configuration, a seed and a split to a curve and the weights of the kept epoch.

    for epoch in training.epochs(network, config, data, split, seed=0):
        print(epoch.number, epoch.metrics.val_accuracy)

Deterministic given seed, threads and machine: a run that is interrupted after any batch and
resumed from its checkpoint gives the same weights and curve, bit for bit on a CPU.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmnist_hpo.data import Examples, Split
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks import checkpoint
from fmnist_hpo.networks.checkpoint import history, weights
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig
from fmnist_hpo.networks.loop import Diverged, EpochMetrics, Loop
from fmnist_hpo.networks.preprocessing import Preprocessing
from fmnist_hpo.networks.process import keep_freed_memory

__all__ = [
    "Diverged",
    "Epoch",
    "EpochMetrics",
    "Interrupted",
    "TrainResult",
    "epochs",
    "history",
    "memory_errors",
    "train",
    "weights",
]


class Interrupted(Exception):
    """Training was asked to stop; from `checkpoint` it goes on at the next batch."""

    def __init__(self, checkpoint: bytes) -> None:
        super().__init__("training was asked to stop")
        self.checkpoint = checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A run after its last epoch."""

    weights: Mapping[str, Tensor]  # of the kept epoch; see `Epoch.weights`
    history: tuple[EpochMetrics, ...]
    kept: int  # number of the step whose weights these are
    checkpoint: bytes

    @property
    def val_accuracy(self) -> float:
        """Of the kept step; NaN without a validation part."""
        accuracy = self.history[self.kept - 1].val_accuracy
        return math.nan if accuracy is None else accuracy


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A finished step of a run: an epoch, or with `report_every` a part of one.

    `result` and `save` are of the run as it is now.
    """

    number: int  # of the step, from 1
    metrics: EpochMetrics
    resumed: bool  # read from a checkpoint, not trained here
    _loop: Loop

    def save(self) -> bytes:
        """A checkpoint for `epochs(..., resume=...)`."""
        return checkpoint.save(self._loop)

    def result(self) -> TrainResult:
        """The run as if it ended here: the last step is kept, or with patience the best one."""
        loop = self._loop
        return TrainResult(
            weights=loop.kept_weights(),
            history=tuple(loop.history),
            kept=loop.kept,
            checkpoint=checkpoint.save(loop),
        )


def epochs(
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
) -> Iterator[Epoch]:
    """Train a network and yield each finished step, those of the checkpoint first.

    A step is an epoch, or with `config.report_every` a part of one. The network is trained on the
    GPU where there is one. The images that are left when an epoch is cut into batches are not used
    in that epoch. Training ends after `config.epochs`, or with `config.patience` and a validation
    part earlier. Between two steps, and whenever the iterator is dropped, the caller's random
    generators and torch settings are as they were.

    Args:
        seed: decides first weights, order of the images, augmentation and dropout.
        resume: a checkpoint of a run with the same arguments, to continue it.
        start: a checkpoint of another run of the same network, whose kept weights this one begins
            with, and whose moments if the optimiser is the same.
        preprocessing: None for what `config` says, measured on the training part.
        should_stop: asked after every batch.

    Raises:
        Interrupted: `should_stop` turned true.
        Diverged: an epoch's loss is not finite.
        InputError: fewer than two images to train on, fewer batches in an epoch than reports, or a
            checkpoint of another run.
        MemoryError: the machine or the GPU has no memory left.
    """
    if len(split.train) < 2:
        raise InputError(
            f"need at least 2 images to train on, got {len(split.train)}; "
            "use a larger data set or a smaller validation_fraction"
        )
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with memory_errors():
        loop = Loop(network_config, config, data, split, seed, device, preprocessing)
        if start is not None:
            checkpoint.begin_from(loop, start)
        if resume is not None:
            checkpoint.restore(loop, resume)
    for number, metrics in enumerate(list(loop.history), start=1):
        yield Epoch(number=number, metrics=metrics, resumed=True, _loop=loop)
    while not loop.finished:
        with memory_errors():
            finished = loop.run_step(should_stop)
        if finished is None:
            raise Interrupted(checkpoint.save(loop))
        yield Epoch(number=loop.step, metrics=finished, resumed=False, _loop=loop)


def train(
    network_config: NetworkConfig,
    config: TrainingConfig,
    data: Examples,
    split: Split,
    *,
    seed: int,
    **options: Any,
) -> TrainResult:
    """Train to the end; arguments and errors are those of `epochs`."""
    last = None
    for epoch in epochs(network_config, config, data, split, seed=seed, **options):
        last = epoch
    assert last is not None  # `epochs` is at least 1
    return last.result()


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
