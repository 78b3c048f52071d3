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
from fmnist_hpo.networks.augmentation import augment
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.optimization import build_optimizer, learning_rate
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


class Diverged(Exception):
    """A loss is not finite."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch. The training figures are means over its batches, taken while the weights moved."""

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
        self.patience = config.patience if len(split.validation) else None
        self.generators: dict[str, Tensor] = {}
        with self._running():
            torch.manual_seed(seed)
            network = build(network_config, image_size=data.image_size, classes=len(data.classes))
            self.network = network.to(device).to(memory_format=torch.channels_last)
            self.optimizer = build_optimizer(self.network, config)
            self.preprocessing = preprocessing or Preprocessing.of(
                config, *normalization(config.normalization, data, split)
            )
            # On a CPU these are the mapped file or the array itself, without a copy.
            self.images = as_tensor(data.images).to(device)  # (n, h, w)
            self.labels = as_tensor(data.labels).to(device)  # (n,) int64
            self.train_indices = torch.from_numpy(split.train)
            self.validation_indices = torch.from_numpy(split.validation).to(device)
            # Summed on the device and read once an epoch, so that the device never waits.
            self.loss = torch.zeros((), device=device)  # sum of the batches' means
            self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.batch_size = min(config.batch_size, len(split.train))
        self.batches = len(split.train) // self.batch_size
        self.epoch = 0  # finished
        self.batch = 0  # finished in the present epoch
        self.seconds = 0.0  # spent in the present epoch
        self.history: list[EpochMetrics] = []
        self.best = 0  # the first epoch with the highest validation accuracy; with patience only
        self.best_weights: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether the last epoch is over, or patience has run out."""
        impatient = self.patience is not None and self.epoch - self.best >= self.patience
        return self.epoch == self.config.epochs or impatient

    @property
    def kept(self) -> int:
        """The number of the epoch that the run's result is taken from."""
        return self.best or self.epoch

    def kept_weights(self) -> dict[str, Tensor]:
        """The network's state after the kept epoch, on the CPU."""
        return self.best_weights if self.best else self.weights()

    def run_epoch(self, should_stop: Callable[[], bool]) -> EpochMetrics | None:
        """Train what is left of the epoch and validate: its figures, or None when it was stopped.

        Args:
            should_stop: asked after every batch.

        Raises:
            Diverged: a loss is not finite.
        """
        with self._running():
            metrics = self._run_epoch(should_stop)
        if metrics is None:
            return None
        self.history.append(metrics)
        self.epoch += 1
        self.batch, self.seconds = 0, 0.0
        self.loss.zero_()
        self.correct.zero_()
        if self.patience is not None and self._is_best(metrics):
            self.best, self.best_weights = self.epoch, self.weights()
        return metrics

    def _run_epoch(self, should_stop: Callable[[], bool]) -> EpochMetrics | None:
        started = time.perf_counter() - self.seconds
        self.network.train()
        batches = torch.split(self._order(), self.batch_size)[: self.batches]
        for indices in batches[self.batch :]:
            self._step(indices)
            self.batch += 1
            if should_stop():
                self.seconds = time.perf_counter() - started
                return None
        train_loss = self._finite("training", float(self.loss) / self.batches)
        trained = self.batches * self.batch_size
        train_accuracy = int(self.correct) / trained
        train_seconds = time.perf_counter() - started
        val_loss, val_accuracy = self._validate()
        return EpochMetrics(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - started,
            images_per_second=trained / train_seconds,
        )

    def _is_best(self, metrics: EpochMetrics) -> bool:
        before = self.history[self.best - 1].val_accuracy if self.best else None
        assert metrics.val_accuracy is not None
        return before is None or metrics.val_accuracy > before

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

    def _order(self) -> Tensor:
        """The epoch's indices; drawn from seed and epoch alone, so it need not be stored."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(len(self.train_indices), generator=generator)
        return self.train_indices[order].to(self.device)

    def _step(self, indices: Tensor) -> None:
        step = self.epoch * self.batches + self.batch
        rate = learning_rate(self.config, step, self.config.epochs * self.batches)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = augment(self.images.index_select(0, indices), self.config)
        labels = self.labels.index_select(0, indices)
        logits = self.preprocessing.logits(self.network, images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(1) == labels).sum()

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
            raise Diverged(f"the {part} loss of epoch {self.epoch + 1} is {loss}")
        return loss

    @torch_defaults()
    def weights(self) -> dict[str, Tensor]:
        """The network's present state, on the CPU."""
        return {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.network.state_dict().items()
        }
