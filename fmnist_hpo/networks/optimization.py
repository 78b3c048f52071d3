"""Optimisers and learning-rate schedules."""

import math

import torch
from torch import nn

from fmnist_hpo.networks.config import TrainingConfig

__all__ = ["build_optimizer", "learning_rate"]

# One-cycle (Smith 2018): shares of all steps and of the peak rate.
WARM_UP, START, END = 0.25, 0.1, 0.001
# Step: the rate falls to a tenth after these shares of all steps (He et al. 2016).
STEPS, STEP_FACTOR = (0.5, 0.75), 0.1


def build_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """torch's fused optimiser of that name, with torch's other defaults.

    Its learning rate is set before each step, see `learning_rate`.
    """
    parameters, decay = network.parameters(), config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, weight_decay=decay, fused=True)


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
