"""What a network costs to train: judged from its configuration, measured on a few batches."""

import dataclasses
import statistics
import time

import torch

from fmnist_hpo.allocator import keep_freed_memory
from fmnist_hpo.config import ANNConfig, NetworkConfig, TrainingConfig
from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.models import build, count_flops
from fmnist_hpo.training_loop import VALIDATION_BATCH, Loop

__all__ = ["EpochCost", "flops", "measure_epoch", "remarks"]

EPOCHS = 3  # timed, of a part of the images each; their median counts
PART_SECONDS = 0.25  # that the training of such a part shall take
FEWEST_BATCHES = 3
VALIDATED = 2 * VALIDATION_BATCH  # images


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochCost:
    """Seconds that an epoch on the whole split takes, and those before the first."""

    epoch_seconds: float
    start_seconds: float


def flops(network: NetworkConfig, image_size: tuple[int, int], classes: int) -> int:
    """FLOPs of one image's prediction; nothing is computed for it."""
    with torch.device("meta"):
        return count_flops(build(network, image_size=image_size, classes=classes), image_size)


def remarks(network: NetworkConfig, image_size: tuple[int, int]) -> tuple[str, ...]:
    """What makes no sense in a network, one sentence each."""
    if isinstance(network, ANNConfig):
        return ()
    height, width = image_size
    size = network.kernel_size
    for block in range(len(network.channels)):
        pooled = min(height, width) >= 2
        idle = size**2 - _used(size, height, pooled) * _used(size, width, pooled)
        if idle:
            return (
                f"block {block + 1} of {len(network.channels)} sees maps of {height}x{width}, "
                f"where {idle} of the {size**2} weights of each {size}x{size} kernel only ever "
                "meet padding",
            )
        if pooled:
            height, width = height // 2, width // 2
    return ()


def _used(size: int, length: int, pooled: bool) -> int:
    """How many of the weights along one axis of a kernel ever meet the map."""
    outputs = 2 * (length // 2) if pooled else length  # pooling leaves an odd one out
    before, after = min(size // 2, outputs - 1), min(size // 2, length - 1)
    return before + 1 + after


def measure_epoch(
    network: NetworkConfig, config: TrainingConfig, data: TrainingData, split: Split
) -> EpochCost:
    """Train on a few batches and validate on a few images, several times.

    Raises:
        MemoryError: see `training.train`.
    """
    keep_freed_memory()
    # nothing learnt here is used, and a small rate cannot diverge
    config = dataclasses.replace(config, epochs=EPOCHS + 1, learning_rate=1e-6)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    batch_size = Loop(network, config, data, split, 0, device).batch_size
    start_seconds = time.perf_counter() - started
    most = len(split.train) // batch_size

    def part(batches: int) -> Loop:
        chosen = Split(
            train=split.train[: batches * batch_size],
            validation=split.validation[:VALIDATED],
            hash=split.hash,
        )
        return Loop(network, config, data, chosen, 0, device)

    loop = part(min(2, most))
    loop.run_epoch(_never)  # the first steps choose kernels and grow the memory
    batch_seconds = batch_size / loop.run_epoch(_never).images_per_second
    loop = part(min(most, max(FEWEST_BATCHES, round(PART_SECONDS / batch_seconds))))
    loop.run_epoch(_never)
    epochs = [_epoch_seconds(loop, split, most) for _ in range(EPOCHS)]
    return EpochCost(epoch_seconds=statistics.median(epochs), start_seconds=start_seconds)


def _epoch_seconds(loop: Loop, split: Split, batches: int) -> float:
    """Run an epoch of a part, with its checkpoint, and scale it up to the whole split."""
    metrics = loop.run_epoch(_never)
    trained, validated = loop.batches * loop.batch_size, len(loop.validation_indices)
    training = trained / metrics.images_per_second
    validation = metrics.seconds - training
    started = time.perf_counter()
    loop.checkpoint()
    saving = time.perf_counter() - started
    return (
        training * batches / loop.batches
        + validation * len(split.validation) / max(1, validated)
        + saving
    )


def _never() -> bool:
    return False
