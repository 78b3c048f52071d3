"""Samples a trial's parameters with the study's sampler, and rejects what is infeasible."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler

from search import attributes
from search.aims.foreknown import DRAWN, excesses, keeps_known, static_metrics
from search.ledger import Claim
from search.sampling.make import make_sampler
from search.spec import StudySpec
from search.spec.strategies import FREEZE_THAW
from search.study import Study
from search.worker.history import History

__all__ = ["Proposal", "set_constraints", "suggest"]

PROPOSED = 20  # infeasible proposals of the sampler, after which random ones follow


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial with its parameters.

    Attributes:
        params: all of them, `[fixed]` included.
        metrics: those that are known in advance, by name, where the study needs them.
        feasible: whether these keep the constraints.
    """

    trial: optuna.Trial
    params: dict[str, Any]
    metrics: dict[str, float]
    feasible: bool

    def report(self, value: float, step: int) -> None:
        """Store the first metric at a step; Optuna's `report` refuses a study with two metrics."""
        self.trial.storage.set_trial_intermediate_value(self.trial._trial_id, step, value)


def suggest(study: Study, claim: Claim, history: History) -> Proposal:
    """Sample every parameter of a claimed trial.

    A proposal that breaks a constraint that is known in advance is rejected, and the sampler is
    asked again; after `PROPOSED` of them feasible parameters are drawn at random. If none is found,
    the last proposal stays. Parameters that a trial was given in advance stay in each.

    A trial whose parameters were tried before is marked, and run all the same: its seed differs,
    so it measures the spread of the value.
    """
    spec, lineage = study.specs.of(claim.trial), claim.lease.lineage
    amendment = claim.trial.user_attrs.get(attributes.AMENDMENT, 0)
    searched = study.searched(amendment)
    name, options = spec.sampler.name, spec.sampler.options
    if spec.is_control(lineage) or name == FREEZE_THAW:  # which gives all of them in advance
        searched, name, options = study.optuna, "random", {}
    # A scrambled sequence is one sequence only while all workers scramble it alike.
    seed = spec.seed if name == "qmc" else spec.trial_seed(lineage)
    conditional = spec.space.conditional
    searched.sampler = make_sampler(name, options, seed=seed, conditional=conditional)
    searched._thread_local.cached_all_trials = None  # as Study.ask does for each new trial
    trial = optuna.Trial(searched, claim.trial._trial_id)
    assigned, proposed = spec.assigned(lineage), bool(trial.params)
    if assigned is not None:
        for name, distribution in spec.distributions(assigned.params).items():
            _ask(trial, name, distribution)
    if spec.constraints and not proposed:
        given = {} if assigned is None else assigned.params
        trial._fixed_params = _feasible(study, spec, trial, given, spec.trial_seed(lineage))
    chosen = spec.space.walk(lambda name, d: _ask(trial, name, d), {**spec.fixed, **trial.params})
    params = {**spec.fixed, **trial.params, **chosen}
    trials = study.optuna._get_trials(deepcopy=False, use_cache=True)
    repeats = assigned is not None and assigned.repeat is not None  # not by chance
    twin = None if repeats else history.twin(trials, params, trial.number, lineage)
    if twin is not None:
        trial.set_user_attr(attributes.DUPLICATE_OF, twin)
    metrics = static_metrics(study.problem, spec, params)
    if metrics:
        trial.set_user_attr(attributes.METRICS, metrics)
    feasible = set_constraints(trial, spec, metrics)
    if spec.earlier:  # whose trials the pruner is not shown
        trial.study = study.searched(amendment, earlier=False)
    return Proposal(trial=trial, params=params, metrics=metrics, feasible=feasible)


def set_constraints(trial: optuna.Trial, spec: StudySpec, metrics: Mapping[str, float]) -> bool:
    """Record for Optuna how far these metrics lie outside their bounds; whether all are inside."""
    found = excesses(spec, metrics)
    for name, excess in found.items():
        # Not by Optuna's `set_constraint`, which keeps what an attempt before had measured.
        trial.storage.set_trial_system_attr(
            trial._trial_id, f"{attributes.CONSTRAINT}{name}", excess
        )
    return all(excess <= 0 for excess in found.values())


def _feasible(
    study: Study, spec: StudySpec, trial: optuna.Trial, given: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Parameters of a new trial that keep what is known in advance; else the last that were drawn.

    Nothing is stored of a rejected proposal.
    """
    point: dict[str, Any] = {}
    for point in _proposals(spec, trial, given, seed):
        if point.keys() <= given.keys() or keeps_known(
            study.problem, spec, {**spec.fixed, **point}
        ):
            break
    return point


def _proposals(
    spec: StudySpec, trial: optuna.Trial, given: Mapping[str, Any], seed: int
) -> Iterator[dict[str, Any]]:
    """The sampler's proposals, then random ones, with what is given in each."""
    searched, stored, sampler = trial.study, trial._cached_frozen_trial, trial.study.sampler
    space = sampler.infer_relative_search_space(searched, stored)
    for _ in range(PROPOSED):
        relative = sampler.sample_relative(searched, stored, space)
        yield _draw(spec, trial, sampler, {**relative, **given})
    random = make_sampler("random", {}, seed=seed, conditional=False)
    for _ in range(DRAWN):
        yield _draw(spec, trial, random, given)


def _draw(
    spec: StudySpec, trial: optuna.Trial, sampler: BaseSampler, known: Mapping[str, Any]
) -> dict[str, Any]:
    """A point of the space with the values that are known, where they apply."""
    draft = copy.copy(trial._cached_frozen_trial)
    draft.params, draft.distributions = {}, {}

    def choose(name: str, distribution: BaseDistribution) -> Any:
        if name in known:
            value = known[name]
        else:
            value = sampler.sample_independent(trial.study, draft, name, distribution)
        draft.params[name], draft.distributions[name] = value, distribution
        return value

    return spec.space.walk(choose, spec.fixed)


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
