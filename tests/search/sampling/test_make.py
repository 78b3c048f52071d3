"""A worker's samplers hand on what they have read; what they propose does not change by it."""

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search.sampling.make import _READ, hand_over, make_sampler
from search.spec.strategies import SAMPLERS

SPACE = {"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 9)}
OPTIONAL = FloatDistribution(0.0, 1.0)


def study_of(trials: int) -> optuna.Study:
    study = optuna.create_study()
    for number in range(trials):
        add(study, number)
    return study


def add(study: optuna.Study, number: int) -> None:
    """Every third trial has a parameter more; the value is a formula of the number."""
    params: dict[str, float] = {"x": (number * 0.37) % 1.0, "n": 1 + number % 9}
    distributions = dict(SPACE)
    if number % 3 == 0:
        params["y"] = (number * 0.61) % 1.0
        distributions["y"] = OPTIONAL  # type: ignore[assignment]
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED if number % 4 == 3 else TrialState.COMPLETE,
            value=abs(params["x"] - 0.3) + params["n"],
            params=params,
            distributions=distributions,
        )
    )


def proposal(study: optuna.Study) -> dict[str, float]:
    trial = study.ask()
    values = {
        "x": trial.suggest_float("x", 0.0, 1.0),
        "n": float(trial.suggest_int("n", 1, 9)),
        "y": trial.suggest_float("y", 0.0, 1.0),
    }
    study.tell(trial, state=TrialState.FAIL)
    return values


@pytest.mark.parametrize("name", ["tpe", "gp"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_successor_proposes_what_a_new_sampler_proposes(name: str, conditional: bool) -> None:
    options = {"n_startup_trials": 4}
    study = study_of(20)
    study.sampler = make_sampler(name, options, seed=1, conditional=conditional)
    proposal(study)
    for number in range(20, 26):
        add(study, number)
    successor = make_sampler(name, options, seed=2, conditional=conditional)
    hand_over(study.sampler, successor)
    study.sampler = successor
    ours = proposal(study)

    study.sampler = make_sampler(name, options, seed=2, conditional=conditional)
    assert ours == proposal(study)


def test_nothing_is_taken_from_a_sampler_of_another_kind() -> None:
    study = study_of(8)
    study.sampler = make_sampler("cma-es", {"n_startup_trials": 1}, seed=0, conditional=False)
    proposal(study)
    tpe = make_sampler("tpe", {}, seed=0, conditional=False)
    before = dict(vars(tpe))
    hand_over(study.sampler, tpe)
    assert vars(tpe) == before


def test_everything_that_is_handed_over_belongs_to_a_sampler() -> None:
    """A name that was changed would be passed over in silence, and every trial read again."""
    samplers = [make_sampler(name, {}, seed=0, conditional=True) for name in SAMPLERS]
    assert set().union(*map(vars, samplers)) >= _READ
    first, successor = (make_sampler("tpe", {}, seed=seed, conditional=True) for seed in (0, 1))
    hand_over(first, successor)
    assert {name for name, value in vars(successor).items() if value is vars(first)[name]} >= {
        "_search_space", "_group_decomposed_search_space", "_known",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("conditional", [False, True])
def test_tpe_beside_hyperband_proposes_what_optunas_proposes(conditional: bool) -> None:
    """Hyperband gives a sampler another view of the study for each trial."""

    def proposals(ours: bool) -> list[dict[str, float]]:
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
        study = optuna.create_study(study_name="same", pruner=pruner)
        theirs = optuna.samplers.TPESampler(seed=0, multivariate=True, group=conditional)
        made = []
        for number in range(30):
            if ours:
                successor = make_sampler("tpe", {}, seed=number, conditional=conditional)
                hand_over(study.sampler, successor)
                study.sampler = successor
            else:
                theirs._rng.rng.seed(number)
                theirs._random_sampler._rng.rng.seed(number)
                study.sampler = theirs
            trial = study.ask()
            made.append({"x": trial.suggest_float("x", 0, 1), "n": trial.suggest_int("n", 1, 9)})
            if trial.params["n"] > 4:
                made[-1]["y"] = trial.suggest_float("y", 0, 1)
            trial.report(made[-1]["x"], 1)
            pruned = trial.should_prune()
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            study.tell(trial, None if pruned else made[-1]["x"], state=state)
        return made

    assert proposals(ours=True) == proposals(ours=False)
