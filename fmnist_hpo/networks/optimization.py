"""Optimisers and learning-rate schedules."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn

from fmnist_hpo.networks.config import TrainingConfig

__all__ = [
    "RunningAverage",
    "begin_from_evaluation",
    "build_optimizer",
    "evaluates_apart",
    "evaluation_weights",
    "learning_rate",
    "progress",
    "set_progress",
    "trained_parameters",
]

# One-cycle (Smith 2018): shares of all steps and of the peak rate.
WARM_UP, START, END = 0.25, 0.1, 0.001
# Step: the rate falls to a tenth after these shares of all steps (He et al. 2016).
STEPS, STEP_FACTOR = (0.5, 0.75), 0.1
# Entries of a parameter group of `AdamWScheduleFree` that its steps change.
_PROGRESS = ("k", "weight_sum", "lr_max", "scheduled_lr", "train_mode")


def build_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """torch's fused optimiser of that name with torch's other defaults, or one of two others.

    Muon is of Jordan et al. 2024, see `MuonAndAdamW`; Schedule-Free AdamW of Defazio et al. 2024,
    "The Road Less Scheduled". The latter steps with other weights than the network is evaluated
    with, see `evaluation_weights`. The learning rate is set before each step, see `learning_rate`.
    """
    parameters, decay = trained_parameters(network), config.weight_decay
    if config.optimizer == "schedule-free":
        # On a CPU one tensor after the other stays in the cache, and is a third faster.
        on_gpu = parameters[0].is_cuda
        free: Any = _eager(AdamWScheduleFree)(parameters, weight_decay=decay, foreach=on_gpu)
        free.train()
        kept: torch.optim.Optimizer = free
        return kept
    if config.optimizer == "muon":
        return MuonAndAdamW(network, weight_decay=decay)
    if config.optimizer == "sgd":
        kind, momentum = _eager(torch.optim.SGD), config.momentum
        return kind(parameters, momentum=momentum, weight_decay=decay, fused=True)
    kind = _eager(torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam)
    return kind(parameters, weight_decay=decay, fused=True)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those that an optimiser steps, in the order in which its state counts them."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class _Eager(torch.optim.Optimizer):
    """An optimiser that never loads torch's compiler.

    torch wraps these methods so that its compiler leaves them out. The wrapper loads the compiler
    when it is first called, which takes three processor seconds. Nothing is compiled here, so the
    methods are used without the wrapper.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


def _eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (_Eager, kind), {"step": step})


class MuonAndAdamW(_Eager):
    """Muon for kernels and hidden layers, AdamW for biases, normalisation and the output layer.

    torch's Muon takes matrices only: a kernel is seen as one of shape (channels, inputs). Its steps
    are scaled to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so
    that one learning rate serves both.

    Args:
        network: its kernels in channels-last format, its output layer the last one.
    """

    def __init__(self, network: nn.Module, *, weight_decay: float) -> None:
        everything = trained_parameters(network)
        super().__init__(everything, {"lr": 1e-3})
        *hidden, _ = (p for p in everything if p.ndim > 1)
        self._matrices = [(p, nn.Parameter(_as_matrix(p.detach()))) for p in hidden]
        assert all(p.data_ptr() == matrix.data_ptr() for p, matrix in self._matrices)
        by_muon = {id(p) for p in hidden}
        self._others = [p for p in everything if id(p) not in by_muon]
        self._adamw = _eager(torch.optim.AdamW)(self._others, weight_decay=weight_decay, fused=True)
        self._parts: list[torch.optim.Optimizer] = [self._adamw]
        if hidden:
            self._muon = _eager(torch.optim.Muon)(
                [matrix for _, matrix in self._matrices],
                weight_decay=weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append(self._muon)

    def step(self) -> None:  # type: ignore[override]
        """Change all parameters by their gradients."""
        for parameter, matrix in self._matrices:
            assert parameter.grad is not None
            matrix.grad = _as_matrix(parameter.grad)
        for part in self._parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()
        for parameter, matrix in self._matrices:
            self.state[parameter] = self._muon.state[matrix]
        for parameter in self._others:
            self.state[parameter] = self._adamw.state[parameter]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `torch.optim.Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        for parameter, matrix in self._matrices:
            if parameter in self.state:
                self._muon.state[matrix] = self.state[parameter]
        for parameter in self._others:
            if parameter in self.state:
                self._adamw.state[parameter] = self.state[parameter]


def _as_matrix(tensor: Tensor) -> Tensor:
    """(n, i) as it is; a kernel (n, c, h, w) as (n, h * w * c), in channels-last format a view."""
    return tensor if tensor.ndim == 2 else tensor.permute(0, 2, 3, 1).reshape(len(tensor), -1)


def evaluates_apart(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a network is evaluated with other weights than the optimiser steps with."""
    return isinstance(optimizer, AdamWScheduleFree)


class RunningAverage:
    """An exponential average of a network's parameters over the steps of a training.

    Its decay grows to the given one as (1 + n) / (10 + n) after n steps, so that the first weights
    are soon forgotten.

    Args:
        decay: 0 for no average.

    Attributes:
        tensors: the averages in the order of the parameters; empty without one.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._parameters = list(network.parameters()) if decay else []
        self._decay = decay
        self.tensors = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Add the present parameters, after so many earlier steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for average, parameter in zip(self.tensors, self._parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def put(self) -> None:
        """Overwrite the parameters by their averages."""
        for average, parameter in zip(self.tensors, self._parameters, strict=True):
            parameter.copy_(average)


@contextmanager
def evaluation_weights(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage
) -> Iterator[None]:
    """Give the network the weights that it is evaluated with, until the block ends.

    They are the optimiser's where it `evaluates_apart`, else the average. The network's state is
    then restored bit for bit; the optimiser alone would restore it but for rounding.
    """
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    free = optimizer if isinstance(optimizer, AdamWScheduleFree) else None
    if free is not None:
        free.eval()
    else:
        average.put()
    try:
        yield
    finally:
        if free is not None:
            free.train()
        network.load_state_dict(before)


def begin_from_evaluation(optimizer: torch.optim.Optimizer) -> None:
    """Turn a network's weights, which are those of an evaluation, into those of the next step."""
    if isinstance(optimizer, AdamWScheduleFree):
        for group in optimizer.param_groups:
            group["train_mode"] = False
        optimizer.train()


def progress(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What the steps have changed in the parameter groups, as values that JSON can hold."""
    return [
        {name: group[name] for name in _PROGRESS if name in group}
        for group in optimizer.param_groups
    ]


def set_progress(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Restore what `progress` returned."""
    for group, stored in zip(optimizer.param_groups, groups, strict=True):
        group.update(stored)


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The rate of a step, counted from 0, of `steps` in all. Closed form: nothing to store."""
    peak, progress = config.learning_rate, step / max(1, steps - 1)
    if config.schedule == "cosine":
        return peak * _half_cosine(progress)
    if config.schedule == "one-cycle":
        if progress < WARM_UP:
            return peak * (START + (1 - START) * progress / WARM_UP)
        return peak * (END + (1 - END) * _half_cosine((progress - WARM_UP) / (1 - WARM_UP)))
    if config.schedule == "step":
        return peak * STEP_FACTOR ** sum(progress >= share for share in STEPS)
    return peak


def _half_cosine(progress: float) -> float:
    """1 at progress 0, falling to 0 at 1 (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))
