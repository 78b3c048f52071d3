"""Constraints: what is known in advance is never trained, what is measured is Optuna's too."""

import threading

import optuna
import pytest
from optuna.trial import TrialState

import search
from search import attributes
from search.errors import NoResult, SpecError
from search.spec import parse_spec
from search.spec.strategies import PROPOSING
from search.study import validate
from search.worker.worker import CHECKPOINTS_KEPT, work

SIZE = "[constraints]\nsize = { max = 4 }"
LATENCY = "[constraints]\nlatency_ms = { max = 0.5 }"  # x <= 0.5


def run(study):
    assert work(study, name="w", stop=threading.Event())


@pytest.mark.slow
def test_what_is_known_in_advance_is_never_trained(make_study, storage_url):
    study = make_study("toy:Sized", trials=12, extra=SIZE, storage=storage_url)
    run(study)
    assert len(study.trials) == 12
    for trial in study.trials:
        assert trial.state is TrialState.COMPLETE
        assert trial.params["x"] <= 0.4
        assert trial.constraints == {"size": pytest.approx(10 * trial.params["x"] - 4)}
        assert trial.user_attrs[attributes.METRICS]["size"] == 10 * trial.params["x"]
        assert trial.user_attrs[attributes.METRICS]["unasked"] is None
    assert study.best.number == study.optuna.best_trial.number


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [name for name in PROPOSING if name != "grid"])
def test_every_sampler_is_asked_until_its_proposal_is_feasible(make_study, sampler):
    extra = f'[constraints]\nsize = {{ max = 1 }}\n[sampler]\nname = "{sampler}"'
    study = make_study("toy:Sized", trials=4, extra=extra, space="x = { float = [0.0, 1.0] }\n"
                       "y = { choice = [1, 2] }")  # fmt: skip
    run(study)
    assert all(trial.params["x"] <= 0.1 for trial in study.trials)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4


def test_a_trial_that_is_added_keeps_what_is_known_in_advance(make_study):
    """Whole, it is refused as one of [[trials]] is; what is left open is drawn where it is kept."""
    space = "x = { float = [0.0, 1.0] }\ny = { choice = [1, 2] }"
    study = make_study("toy:Sized", trials=2, extra=SIZE.replace("4", "1"), space=space)
    with pytest.raises(SpecError, match=r"^the trial breaks a constraint: need size <= 1, got 9; "):
        study.add({"x": 0.9, "y": 1})
    study.add({"y": 2})
    study.add({"x": 0.05, "y": 1})
    run(study)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert all(trial.params["x"] <= 0.1 for trial in study.trials)
    assert study.trials[0].params["y"] == 2
    assert study.trials[1].params == {"x": 0.05, "y": 1}


def test_a_point_of_a_grid_that_is_infeasible_ends_without_training_and_counts(make_study):
    extra = f'{SIZE}\n[sampler]\nname = "grid"'
    study = make_study("toy:Sized", trials=3, space="x = { choice = [0.1, 0.2, 0.9] }", extra=extra)
    run(study)
    status = study.status()
    assert (status.ended, status.complete, status.pruned) == (3, 2, 1)
    (infeasible,) = (t for t in study.trials if t.state is TrialState.PRUNED)
    assert infeasible.user_attrs[attributes.REASON] == "infeasible"
    assert infeasible.params == {"x": 0.9}
    assert infeasible.intermediate_values == {}
    assert infeasible.constraints == {"size": 5.0}
    assert status.reasons == {"infeasible": 1}


@pytest.mark.slow
def test_what_is_measured_decides_which_trial_is_best(make_study, storage_url):
    study = make_study("toy:Sized", trials=12, extra=LATENCY, storage=storage_url)
    run(study)
    ranked = sorted(study.trials, key=lambda trial: -trial.value)
    feasible = [trial for trial in ranked if trial.params["x"] <= 0.5]
    assert ranked[0].params["x"] > 0.5
    assert feasible[0].number == study.best.number == study.status().best.number
    assert study.optuna.best_trial.number == study.best.number
    kept = {
        trial.number
        for trial in study.trials
        if study.checkpoints.load(
            trial.user_attrs[attributes.LINEAGE], params=study.params(trial)
        )  # the toy saves none
    }
    assert kept == set()
    frame = study.trials_frame()
    assert list(frame["feasible"]) == [t.params["x"] <= 0.5 for t in study.trials]
    assert list(frame["metric_latency_ms"]) == [2 * t.params["x"] ** 2 for t in study.trials]
    assert CHECKPOINTS_KEPT == 5


def test_tpe_learns_where_the_constraint_is_kept(make_study):
    """Against Optuna's own constrained TPE the proposals are the same, seed for seed."""
    study = make_study("toy:Sized", trials=16, extra=f'{LATENCY}\n[sampler]\nname = "tpe"')
    run(study)
    plain = optuna.create_study(direction="maximize")
    for lineage, trial in enumerate(study.trials):
        plain.sampler = optuna.samplers.TPESampler(
            seed=study.spec.trial_seed(lineage) % 2**32, multivariate=True
        )
        asked = plain.ask()
        x = asked.suggest_float("x", 0.0, 1.0)
        asked.set_constraint("latency_ms", 2 * x * x - 0.5)
        plain.tell(asked, x)
        assert x == trial.params["x"]


def test_a_retried_trial_has_the_constraint_of_its_last_measurement(make_study):
    study = make_study("toy:Sized", trials=1, extra=LATENCY)
    claim = study.ledger.claim("dead")
    study.storage.optuna.set_trial_system_attr(
        claim.trial._trial_id, f"{attributes.CONSTRAINT}latency_ms", 99.0
    )
    study.ledger.release_worker("dead")
    run(study)
    last = study.trials[-1]
    measured = last.user_attrs[attributes.METRICS]["latency_ms"]
    assert last.constraints == {"latency_ms": measured - 0.5}


def test_without_a_feasible_trial_there_is_none_to_choose(make_study):
    study = make_study("toy:Sized", trials=2, extra="[constraints]\nlatency_ms = { max = -1 }")
    run(study)
    with pytest.raises(
        NoResult, match=r"keeps its constraints \(latency_ms <= -1\); trial \d come"
    ):
        _ = study.best
    assert study.status().best is None


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("latncy_ms = { max = 1 }", "has no metric 'latncy_ms'; did you mean 'latency_ms'"),
        ("size = { max = -1 }", "none of 500 configurations drawn at random keeps size <= -1"),
        ("size = { max = 1, min = 2 }", "need min <= max, got min=2, max=1"),
        ("size = { most = 1 }", r"constraints.size.* has no key 'most'"),
        ("size = 3", r"constraints.size must be a table such as \{ max = 0.2 \}, got 3"),
        ("size = { max = 4 }\n[[trials]]\nname = 'a'\nparams = { x = 0.5 }",
         "trial 'a' breaks a constraint: need size <= 4, got 5"),
    ],
)  # fmt: skip
def test_constraints_that_cannot_be_kept_are_refused(constraints, message):
    text = f"{toy_text()}[constraints]\n{constraints}\n"
    with pytest.raises(SpecError, match=message):
        validate(parse_spec(text, where="f.toml"))


def toy_text():
    from toy import toy_spec

    return toy_spec("toy:Sized")


def test_a_metric_that_run_does_not_return_is_an_error_of_its_code(make_study):
    study = make_study("toy:Silent", trials=3, extra=LATENCY)
    with pytest.raises(search.StudyHalted, match="TypeError at "):
        work(study, name="w", stop=threading.Event())
    assert (
        "1 more metric by name (latency_ms), got a number"
        in (study.trials[0].user_attrs[attributes.ERROR])
    )


def test_freeze_thaw_is_not_for_constraints():
    from toy import toy_spec

    text = toy_spec("toy:Sized", budget="steps = 9", extra=SIZE)
    assert validate(parse_spec(text, where="f")) is not None
    with pytest.raises(SpecError, match=r"freeze-thaw needs a study without \[constraints\]"):
        parse_spec(f"{text}\n[sampler]\nname = 'freeze-thaw'", where="f")
