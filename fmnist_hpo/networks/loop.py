"""The training loop: the state of one run between two batches."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fmnist_hpo.data import Examples, Split
from fmnist_hpo.networks.augmentation import augment, mixup, resize
from fmnist_hpo.networks.config import CNNConfig, NetworkConfig, TrainingConfig
from fmnist_hpo.networks.layers import Whitening, measure_statistics
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.optimization import (
    RunningAverage,
    build_optimizer,
    evaluates_apart,
    evaluation_weights,
    learning_rate,
)
from fmnist_hpo.networks.preprocessing import (
    EVALUATION_BATCH,
    Preprocessing,
    as_tensor,
    normalization,
)
from fmnist_hpo.networks.process import torch_defaults

__all__ = [
    "Diverged",
    "EpochMetrics",
    "Loop",
]


#: Images on which batch normalisation is measured for an evaluation, at most.
STATISTICS_IMAGES = 2000
#: Images whose patches are whitened, at most.
WHITENED_IMAGES = 2000


class Diverged(Exception):
    """A loss is not finite."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """An epoch, or with `report_every` a part of one: a step of the curve.

    The training figures are means over its batches, taken while the weights moved.
    """

    train_loss: float  # nats per image, with label smoothing where configured
    train_accuracy: float  # 0 to 1, on augmented images and with dropout where configured
    val_loss: float | None  # without label smoothing; None without a validation part
    val_accuracy: float | None
    seconds: float  # training and validation
    images_per_second: float  # in training


class Loop:
    """The state of one run, between batches.

    It computes under `torch_defaults` and draws from random generators of its own.
    """

    def __init__(
        self,
        network_config: NetworkConfig,
        config: TrainingConfig,
        data: Examples,
        split: Split,
        seed: int,
        device: torch.device,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.network_config = network_config
        self.config = config
        self.split = split
        self.seed = seed
        self.device = device
        self.image_size = data.image_size
        self.patience = config.patience if len(split.validation) else None
        self.generators: dict[str, Tensor] = {}
        with self._running():
            torch.manual_seed(seed)
            network = build(network_config, image_size=data.image_size, classes=len(data.classes))
            self.network = network.to(device).to(memory_format=torch.channels_last)
            self.preprocessing = preprocessing or Preprocessing.of(
                config, *normalization(config.normalization, data, split)
            )
            # On a CPU these are the mapped file or the array itself, without a copy.
            self.images = as_tensor(data.images).to(device)  # (n, h, w)
            self.labels = as_tensor(data.labels).to(device)  # (n,) int64
            self.train_indices = torch.from_numpy(split.train)
            self.validation_indices = torch.from_numpy(split.validation).to(device)
            self._whiten()
            self.optimizer = build_optimizer(self.network, config)
            # Summed on the device and read once an epoch, so that the device never waits.
            self.loss = torch.zeros((), device=device)  # sum of the batches' means
            self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.batch_size = min(config.batch_size, len(split.train))
        self.batches = config.batches(len(split.train))  # of an epoch
        self.average = RunningAverage(self.network, config.average)
        self.apart = bool(config.average) or evaluates_apart(self.optimizer)
        self._first_mirrored: Tensor | None = None
        self._measures_statistics = self.apart and network_config.batch_norm
        self.trained = 0  # batches since the start of the run
        self.seconds = 0.0  # spent in the present step
        self.history: list[EpochMetrics] = []  # of the finished steps
        self.best = 0  # the first step with the highest validation accuracy; with patience only
        #: The network's state to be kept, where it may differ from the present one: of the best
        #: step, or as evaluated after the last one. On the CPU.
        self.stored_weights: dict[str, Tensor] = {}

    def _whiten(self) -> None:
        """Fit the network's whitening, if it has one, to images of the training part."""
        for layer in self.network.modules():
            if isinstance(layer, Whitening):
                first = self.train_indices[:WHITENED_IMAGES].to(self.device)
                layer.fit(self.preprocessing.inputs(self.images.index_select(0, first)))

    @property
    def step(self) -> int:
        """The number of finished steps."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether the last step is over, or patience has run out."""
        patience, per_epoch = self.patience, self.config.reports_per_epoch
        impatient = patience is not None and self.step - self.best >= patience * per_epoch
        return self.step == self.config.steps or impatient

    @property
    def kept(self) -> int:
        """The number of the step that the run's result is taken from."""
        return self.best or self.step

    def kept_weights(self) -> dict[str, Tensor]:
        """The network's state for evaluation after the kept step, on the CPU."""
        return self.stored_weights or self.weights()

    def run_step(self, should_stop: Callable[[], bool]) -> EpochMetrics | None:
        """Train what is left of the step and validate: its figures, or None when it was stopped.

        Args:
            should_stop: asked after every batch.

        Raises:
            Diverged: a loss is not finite.
        """
        with self._running():
            metrics = self._run_step(should_stop)
            if metrics is None:
                return None
            self.history.append(metrics)
            self.seconds = 0.0
            self.loss.zero_()
            self.correct.zero_()
        return metrics

    def _run_step(self, should_stop: Callable[[], bool]) -> EpochMetrics | None:
        started = time.perf_counter() - self.seconds
        first, end = self.batches_until(self.step), self.batches_until(self.step + 1)
        epoch = first // self.batches
        batches = torch.split(self.order(epoch), self.batch_size)
        self.network.train()
        while self.trained < end:
            self._train_batch(batches[self.trained - epoch * self.batches])
            self.trained += 1
            if should_stop():
                self.seconds = time.perf_counter() - started
                return None
        train_loss = self._finite("training", float(self.loss) / (end - first))
        trained = (end - first) * self.batch_size
        train_accuracy = int(self.correct) / trained
        train_seconds = time.perf_counter() - started
        val_loss, val_accuracy = self._evaluate()
        return EpochMetrics(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - started,
            images_per_second=trained / train_seconds,
        )

    def batches_until(self, step: int) -> int:
        """The number of batches from the start of the run to the end of a step."""
        return step * self.batches // self.config.reports_per_epoch

    def _evaluate(self) -> tuple[float | None, float | None]:
        """Validate, and store the network's state where it is to be kept."""
        if not self.apart:
            figures = self._validate()
            if self._is_best(figures[1]):
                self.best, self.stored_weights = self.step + 1, self.weights()
            return figures
        with evaluation_weights(self.network, self.optimizer, self.average):
            if self._measures_statistics:
                measure_statistics(
                    self.network,
                    (self.images.index_select(0, batch) for batch in self._statistics_batches()),
                    lambda images: self.preprocessing.logits(self.network, images),
                )
            figures = self._validate()
            if self.patience is None:
                self.stored_weights = self.weights()
            elif self._is_best(figures[1]):
                self.best, self.stored_weights = self.step + 1, self.weights()
        return figures

    def evaluated_images(self, split: Split) -> int:
        """The number of images in the forward passes after a step, were it of this split."""
        measured = min(STATISTICS_IMAGES, len(split.train)) if self._measures_statistics else 0
        return len(split.validation) + measured

    def _is_best(self, accuracy: float | None) -> bool:
        """Whether patience waits for an accuracy above those before, and this is one."""
        if self.patience is None:
            return False
        before = self.history[self.best - 1].val_accuracy if self.best else None
        assert accuracy is not None
        return before is None or accuracy > before

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Torch's defaults, and this run's random generators in place of the caller's."""
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch_defaults(), torch.random.fork_rng(devices):
            if self.generators:
                torch.set_rng_state(self.generators["cpu"])
            if "cuda" in self.generators and devices:
                torch.cuda.set_rng_state(self.generators["cuda"])
            try:
                yield
            finally:
                self.generators = {"cpu": torch.get_rng_state()}
                if devices:
                    self.generators["cuda"] = torch.cuda.get_rng_state()

    def order(self, epoch: int) -> Tensor:
        """The indices of an epoch; drawn from seed and epoch alone, so they need not be stored."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self.train_indices), generator=generator)
        return self.train_indices[order].to(self.device)

    def _statistics_batches(self) -> tuple[Tensor, ...]:
        """The indices of training images, the same after every step of the run."""
        batch = min(EVALUATION_BATCH, len(self.train_indices))
        most = min(STATISTICS_IMAGES, len(self.train_indices)) // batch * batch
        return torch.split(self.order(0)[:most], batch)

    def _train_batch(self, indices: Tensor) -> None:
        rate = learning_rate(self.config, self.trained, self.config.epochs * self.batches)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = self.images.index_select(0, indices)
        images = augment(images, self.config, self.mirrored(indices))
        size = self.training_size(self.trained // self.batches)
        if size != self.image_size:
            images = resize(images, size)
        labels = self.labels.index_select(0, indices)
        if self.config.mixup:
            images, other, share = mixup(images, self.config.mixup)
        logits = self.preprocessing.logits(self.network, images)
        loss = self._loss(logits, labels)
        if self.config.mixup:
            loss = share * loss + (1 - share) * self._loss(logits, labels[other])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update(self.trained)
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(1) == labels).sum()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)

    def training_size(self, epoch: int) -> tuple[int, int]:
        """The rows and columns of the images that are trained on in an epoch, counted from 0."""
        scale, (rows, columns) = self.config.scale(epoch), self.image_size
        if scale == 1 or not isinstance(self.network_config, CNNConfig):
            return self.image_size
        # Every block that halves a map of the full size has to find one that can be halved.
        entering = min(self.network_config.map_size(self.image_size))
        halved = min(len(self.network_config.channels), int(math.log2(entering)))
        least = 2**halved + min(rows, columns) - entering
        return max(round(scale * rows), least), max(round(scale * columns), least)

    def mirrored(self, indices: Tensor) -> Tensor | None:
        """Which images of a batch are mirrored; None where chance decides in each epoch."""
        if not self.config.flip_in_turn:
            return None
        if self._first_mirrored is None:  # drawn from the seed alone, so it need not be stored
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + 500_000) % 2**63)
            drawn = torch.rand(len(self.images), generator=generator) < 0.5
            self._first_mirrored = drawn.to(self.device)
        return self._first_mirrored[indices] ^ (self.trained // self.batches % 2 == 1)

    @torch.inference_mode()
    def _validate(self) -> tuple[float | None, float | None]:
        n = len(self.validation_indices)
        if n == 0:
            return None, None
        self.network.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for indices in torch.split(self.validation_indices, EVALUATION_BATCH):
            labels = self.labels.index_select(0, indices)
            images = self.images.index_select(0, indices)
            logits = self.preprocessing.logits(self.network, images)
            loss += F.cross_entropy(logits, labels, reduction="sum").double()
            correct += (logits.argmax(1) == labels).sum()
        return self._finite("validation", float(loss) / n), int(correct) / n

    def _finite(self, part: str, loss: float) -> float:
        if not math.isfinite(loss):
            epoch = (self.step + 1) * self.config.report_every
            raise Diverged(f"the {part} loss of epoch {epoch:g} is {loss}")
        return loss

    @torch_defaults()
    def weights(self) -> dict[str, Tensor]:
        """The network's present state, on the CPU."""
        return {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.network.state_dict().items()
        }
