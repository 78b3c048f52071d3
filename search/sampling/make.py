"""Builds samplers and pruners by name."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from search.errors import SpecError

__all__ = ["make_pruner", "make_sampler"]


def make_sampler(
    name: str, options: Mapping[str, Any], *, seed: int, conditional: bool
) -> BaseSampler:
    """Build a sampler.

    Args:
        seed: any int >= 0; reduced to the 32 bits that numpy's legacy generator takes.
        conditional: whether trials may differ in their parameters; TPE then models each group of
            parameters that occur together, as independent sampling would lose their relations.

    Raises:
        SpecError: an option has a value that Optuna refuses.
    """
    seed %= 2**32
    makers: dict[str, Callable[..., BaseSampler]] = {
        "random": lambda **o: optuna.samplers.RandomSampler(seed=seed, **o),
        "tpe": lambda **o: optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=conditional, **o
        ),
        "gp": lambda **o: optuna.samplers.GPSampler(
            seed=seed, warn_independent_sampling=False, **o
        ),
        "cma-es": lambda **o: optuna.samplers.CmaEsSampler(
            seed=seed, warn_independent_sampling=False, **o
        ),
        "nsga-ii": lambda **o: optuna.samplers.NSGAIISampler(seed=seed, **o),
        "qmc": lambda **o: optuna.samplers.QMCSampler(
            seed=seed, scramble=True, warn_independent_sampling=False, **o
        ),
        # Its decisions are made by `freeze_thaw`; this draws for the control.
        "freeze-thaw": lambda **o: optuna.samplers.RandomSampler(seed=seed, **o),
        "grid": lambda **o: optuna.samplers.RandomSampler(seed=seed, **o),
    }
    sampler: BaseSampler = _make("sampler", makers[name], name, options)
    return sampler


def make_pruner(name: str, options: Mapping[str, Any]) -> BasePruner:
    """Build a pruner; steps and resources are the steps that a problem reports (epochs, folds).

    Raises:
        SpecError: an option has a value that Optuna refuses.
    """
    makers: dict[str, Callable[..., BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "percentile": optuna.pruners.PercentilePruner,
        "successive-halving": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "patience": lambda **o: optuna.pruners.PatientPruner(None, **o),
        "threshold": optuna.pruners.ThresholdPruner,
    }
    pruner: BasePruner = _make("pruner", makers[name], name, options)
    return pruner


def _make(kind: str, maker: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return maker(**options)
        except (TypeError, ValueError) as error:
            given = ", ".join(f"{k} = {v!r}" for k, v in options.items())
            raise SpecError(f"the {name} {kind} refuses {given}: {error}") from error
