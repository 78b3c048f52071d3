"""What a network costs to train: judged from its configuration, measured on a few batches."""

import dataclasses
import statistics
import time

import torch

from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.networks import checkpoint
from fmnist_hpo.networks.config import ANNConfig, NetworkConfig, TrainingConfig
from fmnist_hpo.networks.loop import EpochMetrics, Loop
from fmnist_hpo.networks.models import build, count_flops
from fmnist_hpo.networks.preprocessing import EVALUATION_BATCH
from fmnist_hpo.networks.process import keep_freed_memory, torch_defaults

__all__ = ["EpochCost", "flops", "measure_epoch", "remarks"]

EPOCHS = 3  # timed, of a part of the images each; their median counts
PART_SECONDS = 0.25  # that the training of such a part shall take
FEWEST_BATCHES = 2
VALIDATED = EVALUATION_BATCH  # images


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochCost:
    """Seconds that an epoch on the whole split takes, and those before the first.

    On a CPU those in which this process had the processors; the others are other work's.
    """

    epoch_seconds: float
    start_seconds: float
    share: float  # of the processors' time that this process had, 0 to 1


def flops(network: NetworkConfig, image_size: tuple[int, int], classes: int) -> int:
    """FLOPs of one image's prediction; nothing is computed for it."""
    with torch_defaults(), torch.device("meta"):
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
    config = dataclasses.replace(config, epochs=EPOCHS + 1, patience=None, learning_rate=1e-6)
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
    _run_epoch(loop)  # the first steps choose kernels and grow the memory
    batch_seconds = batch_size / _run_epoch(loop).images_per_second
    loop = part(min(most, max(FEWEST_BATCHES, round(PART_SECONDS / batch_seconds))))
    _run_epoch(loop)
    measured = [_measure(loop, split, most) for _ in range(EPOCHS)]
    share = statistics.median(share for _, share in measured)
    return EpochCost(
        epoch_seconds=statistics.median(seconds for seconds, _ in measured),
        start_seconds=start_seconds * share,
        share=share,
    )


def _measure(loop: Loop, split: Split, batches: int) -> tuple[float, float]:
    """Run an epoch of a part, with its checkpoint: seconds of a whole one, and our share."""
    started, used = time.perf_counter(), time.process_time()
    metrics = _run_epoch(loop)
    run = time.perf_counter() - started
    checkpoint.save(loop)
    passed, used = time.perf_counter() - started, time.process_time() - used
    share = 1.0
    if loop.device.type == "cpu":
        share = min(1.0, used / (passed * torch.get_num_threads()))
    trained, validated = loop.batches * loop.batch_size, len(loop.validation_indices)
    training = trained / metrics.images_per_second
    validation = run - training
    seconds = (
        training * batches / loop.batches
        + validation * len(split.validation) / max(1, validated)
        + passed
        - run
    )
    return seconds * share, share


def _run_epoch(loop: Loop) -> EpochMetrics:
    metrics = loop.run_epoch(lambda: False)
    assert metrics is not None
    return metrics
