"""Our TPE proposes what Optuna's proposes, whatever the trials and the order of their endings."""

import math
import random

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.sampling.tpe import TPESampler

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0.0, 1.0),
    "log": FloatDistribution(1e-5, 1.0, log=True),
    "n": IntDistribution(1, 9),
    "kind": CategoricalDistribution(["a", "b", None]),
}
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

DEEP = {"deep": FloatDistribution(0.0, 2.0)}


def random_trial(dice: random.Random, optional: bool) -> FrozenTrial:
    """Ties among values, pruned trials with and without reports, reports that are not finite."""
    params = {
        "x": dice.random(),
        "log": 10 ** dice.uniform(-5, 0),
        "n": dice.randint(1, 9),
        "kind": dice.choice(["a", "b", None]),
    }
    distributions = dict(SPACE)
    if optional and dice.random() < 0.5:
        params["deep"] = dice.uniform(0.0, 2.0)
        distributions |= DEEP
    state = dice.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED])
    if dice.random() < 0.1:
        state = TrialState.FAIL
    steps = range(1, dice.randint(0, 4) + 1)
    reports = {step: dice.choice([dice.random(), 0.5, math.nan, math.inf]) for step in steps}
    return create_trial(
        state=state,
        value=round(dice.random(), 1) if state is TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        intermediate_values=reports if state is TrialState.PRUNED else {},
    )


def propose(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> dict[str, object]:
    study.sampler = sampler
    trial = study.ask()
    chosen: dict[str, object] = {
        "x": trial.suggest_float("x", 0.0, 1.0),
        "log": trial.suggest_float("log", 1e-5, 1.0, log=True),
        "n": trial.suggest_int("n", 1, 9),
        "kind": trial.suggest_categorical("kind", ["a", "b", None]),
        "deep": trial.suggest_float("deep", 0.0, 2.0),
    }
    study.tell(trial, state=TrialState.FAIL)
    return chosen


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("group", [False, True])
def test_it_proposes_what_optunas_proposes(direction: str, group: bool) -> None:
    dice = random.Random(f"{direction}{group}")
    study = optuna.create_study(direction=direction)
    ours = TPESampler(seed=7, group=group)
    for size in (5, 11, 12, 40, 41, 160):
        while len(study.trials) < size:
            study.add_trial(random_trial(dice, optional=group))
        ours._rng.rng.seed(size)
        theirs = optuna.samplers.TPESampler(seed=size, multivariate=True, group=group)
        ours._random_sampler._rng.rng.seed(size)
        theirs._random_sampler._rng.rng.seed(size)
        assert propose(study, ours) == propose(study, theirs)


@pytest.mark.parametrize("group", [False, True])
def test_running_trials_count_as_bad_ones(group: bool) -> None:
    dice = random.Random(2)
    study = optuna.create_study()
    for _ in range(30):
        study.add_trial(random_trial(dice, optional=group))
    ours = TPESampler(seed=7, group=group)
    alone = propose(study, ours)
    running = []
    for size in range(6):
        theirs = optuna.samplers.TPESampler(seed=size, multivariate=True, group=group)
        study.sampler = theirs
        running.append(study.ask())  # all of its parameters are known before they are asked for
        if size % 2:
            running[-1].suggest_float("x", 0.0, 1.0)
            running[-1].suggest_float("deep", 0.0, 2.0)
        ours._rng.rng.seed(size)
        ours._random_sampler._rng.rng.seed(size)
        theirs = optuna.samplers.TPESampler(seed=size, multivariate=True, group=group)
        assert propose(study, ours) == propose(study, theirs)
    for trial in running:  # and no longer when they have ended
        study.tell(trial, state=TrialState.FAIL)
    ours._rng.rng.seed(7)
    ours._random_sampler._rng.rng.seed(7)
    again = TPESampler(seed=7, group=group)
    assert propose(study, ours) == propose(study, again) == alone


def test_trials_that_end_out_of_order_are_all_seen() -> None:
    study = optuna.create_study()
    early = study.ask()
    dice = random.Random(0)
    early.suggest_float("x", 0.0, 1.0)
    for _ in range(20):
        study.add_trial(random_trial(dice, optional=False))
    ours = TPESampler(seed=1, group=True)
    propose(study, ours)
    study.tell(early, -5.0)  # the best of all, and below every number that was seen
    ours._rng.rng.seed(3)
    theirs = optuna.samplers.TPESampler(seed=3, multivariate=True, group=True)
    mine = propose(study, ours)
    assert mine["x"] == propose(study, theirs)["x"]
    seen, _ = ours._known.split(1)
    assert seen.tolist() == [early.number]


def test_constraints_of_another_program_are_obeyed() -> None:
    study = optuna.create_study()
    dice = random.Random(1)
    for number in range(30):
        trial = random_trial(dice, optional=False)
        if trial.state is TrialState.COMPLETE:
            trial = create_trial(
                value=trial.value,
                params=trial.params,
                distributions=trial.distributions,
                constraints={"limit": 1.0 if number % 2 else -1.0},
            )
        study.add_trial(trial)
    ours = TPESampler(seed=5, group=False)
    theirs = optuna.samplers.TPESampler(seed=5, multivariate=True)
    assert propose(study, ours) == propose(study, theirs)
