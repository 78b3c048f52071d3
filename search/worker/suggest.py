"""Samples a trial's parameters with the study's sampler."""

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search import attributes
from search.ledger import Claim
from search.sampling.make import make_sampler
from search.spec.strategies import FREEZE_THAW
from search.study import Study
from search.worker.history import History

__all__ = ["suggest"]


def suggest(study: Study, claim: Claim, history: History) -> tuple[optuna.Trial, dict[str, Any]]:
    """Sample every parameter of a claimed trial.

    A trial whose parameters were tried before is marked, and run all the same: its seed differs,
    so it measures the spread of the value.

    Returns:
        Optuna's trial, and all parameters for the problem, `[fixed]` included.
    """
    spec, lineage = study.specs.of(claim.trial), claim.lease.lineage
    searched = study.searched(claim.trial.user_attrs.get(attributes.AMENDMENT, 0))
    name, options = spec.sampler.name, spec.sampler.options
    if spec.is_control(lineage) or name == FREEZE_THAW:  # which gives all of them in advance
        searched, name, options = study.optuna, "random", {}
    # A scrambled sequence is one sequence only while all workers scramble it alike.
    seed = spec.seed if name == "qmc" else spec.trial_seed(lineage)
    conditional = spec.space.conditional
    searched.sampler = make_sampler(name, options, seed=seed, conditional=conditional)
    searched._thread_local.cached_all_trials = None  # as Study.ask does for each new trial
    trial = optuna.Trial(searched, claim.trial._trial_id)
    assigned = spec.assigned(lineage)
    if assigned is not None:
        for name, distribution in spec.distributions(assigned.params).items():
            _ask(trial, name, distribution)
    chosen = spec.space.walk(lambda name, d: _ask(trial, name, d), {**spec.fixed, **trial.params})
    params = {**spec.fixed, **trial.params, **chosen}
    trials = study.optuna._get_trials(deepcopy=False, use_cache=True)
    twin = history.twin(trials, params, trial.number, lineage)
    if twin is not None:
        trial.set_user_attr(attributes.DUPLICATE_OF, twin)
    return trial, params


def _ask(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )
