"""The samplers by name are Optuna's, with the settings that parallel workers need."""

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search.sampling.make import make_sampler


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("conditional", [False, True])
def test_tpe_models_parameters_together_and_counts_running_trials(conditional: bool) -> None:
    study = optuna.create_study()
    for number in range(30):
        params = {"x": (number * 0.37) % 1.0, "n": 1 + number % 9}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if number % 4 == 3 else TrialState.COMPLETE,
                value=abs(params["x"] - 0.3) + params["n"],
                params=params,
                distributions={"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 9)},
            )
        )

    def proposal(sampler: optuna.samplers.BaseSampler) -> dict[str, float]:
        study.sampler = sampler
        trial = study.ask()
        values = {"x": trial.suggest_float("x", 0, 1), "n": trial.suggest_int("n", 1, 9)}
        study.tell(trial, state=TrialState.FAIL)
        return values

    theirs = optuna.samplers.TPESampler(
        seed=7, multivariate=True, group=conditional, constant_liar=True
    )
    ours = make_sampler("tpe", {}, seed=7 + 2**32, conditional=conditional)
    running = study.ask()  # both see it
    running.suggest_float("x", 0, 1)
    running.suggest_int("n", 1, 9)
    assert proposal(ours) == proposal(theirs)
