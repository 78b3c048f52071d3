"""The training loop: the state of one run between two batches, and the checkpoint that carries it.

A checkpoint is safetensors: the network's and the optimiser's tensors, the generators' states and
the running sums; its JSON part holds the position, the curve so far, and what run it belongs to.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from fmnist_hpo.data import Examples, Split
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.augmentation import augment
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.optimization import build_optimizer, learning_rate
from fmnist_hpo.networks.preprocessing import Preprocessing, normalization

__all__ = [
    "VALIDATION_BATCH",
    "Diverged",
    "EpochMetrics",
    "Interrupted",
    "Loop",
    "read_part",
    "read_state",
]

VALIDATION_BATCH = 500  # images; larger ones take more memory and are no faster


class Diverged(Exception):
    """A loss is not finite."""


class Interrupted(Exception):
    """Training was asked to stop; `checkpoint` goes on at the next batch."""

    def __init__(self, checkpoint: bytes) -> None:
        super().__init__("training was asked to stop")
        self.checkpoint = checkpoint


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
    """The state of one run, between batches."""

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
        self.config = config
        self.device = device
        self.seed = seed
        self.key = json.dumps([network_config.to_json(), asdict(config), seed, split.hash])
        network = build(network_config, image_size=data.image_size, classes=len(data.classes))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.network, config)
        self.preprocessing = preprocessing or Preprocessing.of(
            config, *normalization(config.normalization, data, split)
        )
        with warnings.catch_warnings():  # they are only read
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
        self.images = images.to(device)  # (n, h, w); on a CPU the mapped file or the array itself
        self.labels = labels.to(device)  # (n,) int64
        self.train_indices = torch.from_numpy(split.train)
        self.validation_indices = torch.from_numpy(split.validation).to(device)
        self.batch_size = min(config.batch_size, len(split.train))
        self.batches = len(split.train) // self.batch_size
        self.epoch = 0  # finished
        self.batch = 0  # finished in the present epoch
        self.seconds = 0.0  # spent in the present epoch
        self.history: list[EpochMetrics] = []
        # Summed on the device and read once an epoch, so that the device never waits.
        self.loss = torch.zeros((), dtype=torch.float32, device=device)  # sum of batches' means
        self.correct = torch.zeros((), dtype=torch.int64, device=device)

    def run_epoch(self, should_stop: Callable[[], bool]) -> EpochMetrics:
        """Train what is left of the epoch and validate."""
        started = time.perf_counter() - self.seconds
        self.network.train()
        batches = torch.split(self._order(), self.batch_size)[: self.batches]
        for indices in batches[self.batch :]:
            self._step(indices)
            self.batch += 1
            if should_stop():
                self.seconds = time.perf_counter() - started
                raise Interrupted(self.checkpoint())
        train_loss = self._finite("training", float(self.loss) / self.batches)
        trained = self.batches * self.batch_size
        train_accuracy = int(self.correct) / trained
        train_seconds = time.perf_counter() - started
        val_loss, val_accuracy = self._validate()
        metrics = EpochMetrics(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - started,
            images_per_second=trained / train_seconds,
        )
        self.history.append(metrics)
        self.epoch += 1
        self.batch, self.seconds = 0, 0.0
        self.loss.zero_()
        self.correct.zero_()
        return metrics

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
        for indices in torch.split(self.validation_indices, VALIDATION_BATCH):
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

    def weights(self) -> dict[str, Tensor]:
        return {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.network.state_dict().items()
        }

    def checkpoint(self) -> bytes:
        """Everything the rest of the run depends on, as safetensors."""
        tensors = {f"network.{name}": tensor for name, tensor in self.weights().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = value.cpu().contiguous()
        tensors["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["generator.cuda"] = torch.cuda.get_rng_state()
        tensors["sum.loss"], tensors["sum.correct"] = self.loss.cpu(), self.correct.cpu()
        state = {
            "key": self.key,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "history": [asdict(metrics) for metrics in self.history],
        }
        return safetensors.torch.save(tensors, {"state": json.dumps(state)})

    def begin_from(self, checkpoint: bytes) -> None:
        """Begin this run with the weights and the optimiser's moments of another one's end."""
        self._load(safetensors.torch.load(checkpoint))

    def restore(self, checkpoint: bytes) -> None:
        """Take up this run where `checkpoint` left it."""
        state, tensors = read_state(checkpoint), safetensors.torch.load(checkpoint)
        if state["key"] != self.key:
            raise InputError(
                "a checkpoint resumes its own run only, got one of another configuration, seed or "
                "split; delete it to start over"
            )
        self._load(tensors)
        torch.set_rng_state(tensors["generator.cpu"])
        if self.device.type == "cuda" and "generator.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["generator.cuda"])
        self.loss.copy_(tensors["sum.loss"])
        self.correct.copy_(tensors["sum.correct"])
        self.epoch, self.batch, self.seconds = state["epoch"], state["batch"], state["seconds"]
        self.history = [EpochMetrics(**row) for row in state["history"]]

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(read_part(tensors, "network."))
        self._restore_optimizer(read_part(tensors, "optimizer."))

    def _restore_optimizer(self, stored: Mapping[str, Tensor]) -> None:
        parameters = list(self.network.parameters())
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in stored.items():
            index, name = key.split(".", 1)
            if tensor.ndim:  # in the parameter's memory order: the fused step walks both as one
                tensor = torch.empty_like(parameters[int(index)]).copy_(tensor).detach()
            moments.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def read_state(checkpoint: bytes) -> dict[str, Any]:
    """A checkpoint's JSON part, read from safetensors' header alone."""
    length = int.from_bytes(checkpoint[:8], "little")  # of the header
    header = json.loads(checkpoint[8 : 8 + length])
    state: dict[str, Any] = json.loads(header["__metadata__"]["state"])
    return state


def read_part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
