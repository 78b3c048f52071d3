"""Estimates what a network costs to train, from its configuration and from a few batches."""

import dataclasses
import statistics
import time
from collections.abc import Iterator

import torch

from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.networks import checkpoint
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, NetworkConfig, TrainingConfig
from fmnist_hpo.networks.loop import EpochMetrics, Loop
from fmnist_hpo.networks.models import build, count_flops, count_parameters
from fmnist_hpo.networks.preprocessing import EVALUATION_BATCH
from fmnist_hpo.networks.process import keep_freed_memory, torch_defaults

__all__ = ["StepCost", "flops", "latency_ms", "measure_step", "remarks", "size"]

EPOCHS = 3  # short epochs that are timed at most; the median counts
ENOUGH_SECONDS = 5.0  # after which no further one is timed
PART_SECONDS = 0.25  # intended training time of a short epoch
FEWEST_BATCHES = 2  # of a short epoch
LATENCIES, LATENCY_SECONDS = 20, 0.3  # timed forward passes at least, and seconds of them at most
VALIDATED = EVALUATION_BATCH  # images validated in a short epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCost:
    """Times of a training on the whole split.

    On a CPU, time that other processes took from this one is not included.
    """

    step_seconds: float  # training, validation and checkpoint
    start_seconds: float  # before the first step
    share: float  # of the processor time that this process got while it was measured, 0 to 1


def flops(network: NetworkConfig, image_size: tuple[int, int], classes: int) -> int:
    """FLOPs of one image's forward pass, counted without computing it."""
    with torch_defaults(), torch.device("meta"):
        return count_flops(build(network, image_size=image_size, classes=classes), image_size)


def size(network: NetworkConfig, image_size: tuple[int, int], classes: int) -> dict[str, float]:
    """What a network measures before it is trained, counted without computing it.

    Returns:
        `parameters`, `mflops` (of one image's forward pass, in millions) and `model_mb` (megabytes
        of all weights and running statistics as float32).
    """
    with torch_defaults(), torch.device("meta"):
        built = build(network, image_size=image_size, classes=classes)
        values = sum(tensor.numel() for tensor in built.state_dict().values())
        return {
            "parameters": count_parameters(built),
            "mflops": count_flops(built, image_size) / 1e6,
            "model_mb": 4 * values / 1e6,
        }


def latency_ms(network: NetworkConfig, image_size: tuple[int, int], classes: int) -> float:
    """The median time of one image's forward pass in milliseconds, on the processor.

    In torch, with the threads of this process, and with weights as they are drawn: they do not
    matter. Other processes on the machine lengthen it.
    """
    with torch_defaults(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        built = build(network, image_size=image_size, classes=classes).eval()
        image = torch.zeros(1, 1, *image_size)
        built(image)  # the first one chooses kernels and allocates memory
        times: list[float] = []
        while len(times) < LATENCIES or sum(times) < LATENCY_SECONDS:
            began = time.perf_counter()
            built(image)
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def remarks(network: NetworkConfig, image_size: tuple[int, int]) -> tuple[str, ...]:
    """Sentences about parts of a network that can have no effect; empty when there are none.

    A map that has shrunk to 1x1 meets only the centre of a 3x3 kernel: the other weights multiply
    padding.
    """
    if isinstance(network, ANNConfig):
        return ()
    size = network.kernel_size
    for block, (height, width), pooled in _convolutions(network, image_size):
        idle = size**2 - _used(size, height, pooled) * _used(size, width, pooled)
        if idle:
            return (
                f"block {block + 1} of {len(network.channels)} sees maps of {height}x{width}, "
                f"where {idle} of the {size**2} weights of each {size}x{size} kernel only ever "
                "meet padding",
            )
    return ()


def _convolutions(
    network: CNNConfig, image_size: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int], bool]]:
    """Block, size of the map, and whether pooling follows, for each convolution."""
    height, width = network.map_size(image_size)
    pooling = 0 if network.pool_after == "first" else network.convolutions - 1
    for block in range(len(network.channels)):
        pooled = min(height, width) >= 2
        for index in range(network.convolutions):
            here = pooled and index == pooling
            yield block, (height, width), here
            if here:
                height, width = height // 2, width // 2


def _used(size: int, length: int, pooled: bool) -> int:
    """The number of weights along one axis of a kernel that ever meet the map.

    Args:
        size: of the kernel along that axis, odd.
        length: of the map along that axis.
        pooled: whether 2x2 pooling follows.
    """
    outputs = 2 * (length // 2) if pooled else length  # pooling drops the last of an odd number
    before, after = min(size // 2, outputs - 1), min(size // 2, length - 1)
    return before + 1 + after


def measure_step(
    network: NetworkConfig, config: TrainingConfig, data: TrainingData, split: Split
) -> StepCost:
    """Time short epochs of a few batches and extrapolate to the whole split.

    Raises:
        RuntimeError: torch has too little memory; `training.memory_errors` translates it.
    """
    keep_freed_memory()
    # The weights are thrown away. A tiny learning rate cannot diverge.
    share_of_epoch, relative = config.report_every, config.relative_cost
    config = dataclasses.replace(
        config, epochs=EPOCHS + 2, report_every=1.0, patience=None, learning_rate=1e-6, resize=1.0
    )
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

    loop = part(min(most, FEWEST_BATCHES))
    _run_epoch(loop)  # warm-up: the first steps choose kernels and allocate memory
    batch_seconds = batch_size / _run_epoch(loop).images_per_second
    batches = min(most, max(FEWEST_BATCHES, round(PART_SECONDS / batch_seconds)))
    if batches > FEWEST_BATCHES:
        loop = part(batches)
        _run_epoch(loop)
    measured: list[tuple[float, float]] = []
    while len(measured) < EPOCHS:
        measured.append(_measure(loop, split, most * share_of_epoch * relative))
        if time.perf_counter() - started > ENOUGH_SECONDS:
            break
    share = statistics.median(share for _, share in measured)
    return StepCost(
        step_seconds=statistics.median(seconds for seconds, _ in measured),
        start_seconds=start_seconds * share,
        share=share,
    )


def _measure(loop: Loop, split: Split, batches: float) -> tuple[float, float]:
    """Run a short epoch and save its checkpoint.

    Args:
        batches: of a step on the whole split, in images of full size.

    Returns:
        Seconds of a step on the whole split, and the share of the processor time.
    """
    started, used = time.perf_counter(), time.process_time()
    metrics = _run_epoch(loop)
    run = time.perf_counter() - started
    checkpoint.save(loop)
    passed, used = time.perf_counter() - started, time.process_time() - used
    share = 1.0
    if loop.device.type == "cpu":
        share = min(1.0, used / (passed * torch.get_num_threads()))
    training = loop.batches * loop.batch_size / metrics.images_per_second
    evaluated = loop.evaluated_images(loop.split) or 1
    seconds = (
        training * batches / loop.batches
        + (run - training) * loop.evaluated_images(split) / evaluated
        + passed
        - run
    )
    return seconds * share, share


def _run_epoch(loop: Loop) -> EpochMetrics:
    metrics = loop.run_step(lambda: False)
    assert metrics is not None
    return metrics
