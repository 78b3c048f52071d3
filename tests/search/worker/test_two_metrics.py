"""A study with two metrics: its front is Optuna's, whoever is asked for it."""

import json
import threading

import optuna
import pytest
from optuna.trial import TrialState
from toy import toy_spec

import search
from search.cli import app
from search.dashboard.note import annotate
from search.errors import NoResult, SearchError, SpecError
from search.outcome import front_of
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.spec import parse_spec
from search.study import validate
from search.worker.reproduce import reproduce
from search.worker.worker import work

AIMS = (
    'metrics = [{ name = "value", direction = "maximize" }, '
    '{ name = "latency_ms", direction = "minimize" }]'
)
SPACE = "x = { float = [0.0, 1.0] }\ny = { float = [0.0, 1.0] }"


def text(problem="toy:Sized", **options):
    single = 'metric = "value"\ndirection = "maximize"'
    return toy_spec(problem, **options).replace(single, AIMS)


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies = []

    def made(storage, **options):
        studies.append(search.create(text("toy:Fronted", **options), storage=storage))
        return studies[-1]

    yield made
    for study in studies:
        study.storage.close()


def run(study):
    assert work(study, name="w", stop=threading.Event())


@pytest.mark.parametrize("sampler", ["nsga-ii", "tpe", "random"])
def test_the_front_is_optunas_on_the_same_trials(make, sqlite_url, sampler):
    extra = f'[sampler]\nname = "{sampler}"'
    extra += "\npopulation_size = 4" if sampler == "nsga-ii" else ""
    study = make(sqlite_url, trials=16, extra=extra, space=SPACE)
    run(study)
    plain = {trial.number for trial in study.optuna.best_trials}
    assert {trial.number for trial in study.pareto} == plain
    assert {trial.number for trial in study.status().front} == plain
    assert 1 < len(plain) < 16
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 16
    assert all(len(t.intermediate_values) == 2 for t in study.trials)


@pytest.mark.slow
def test_a_front_with_a_constraint(make, storage_url, capsys):
    extra = "[constraints]\nlatency_ms = { max = 1.0 }\nsize = { min = 1 }"
    study = make(storage_url, trials=16, extra=extra, space=SPACE)
    run(study)
    front = study.pareto
    assert [t.number for t in front] == [
        t.number for t in sorted(study.optuna.best_trials, key=lambda t: -t.values[0])
    ]
    assert any(t.values[1] > 1.0 for t in study.trials)
    assert all(t.values[1] <= 1.0 and t.params["x"] >= 0.1 for t in front)
    assert study.preferred("latency_ms<=0.9") == next(t for t in front if t.values[1] <= 0.9)
    highest = max(t.values[0] for t in front)
    assert study.preferred(f"value>={highest}").values[0] == highest
    annotate(study.optuna, metrics=study.spec.metrics)
    assert study.optuna.metric_names == ["value", "latency_ms"]
    where = ["--storage", storage_url]
    assert app.main(["best", "toy", "--json", *where]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["trial"] for one in shown["front"]] == [t.number for t in front]
    assert shown["front"][0]["metrics"]["latency_ms"] == front[0].values[1]
    for command in (["best", "toy"], ["status", "toy"], ["status"], ["trials", "toy"],
                    ["trials", "toy", "--csv"], ["diff", "toy", "0", "1"]):  # fmt: skip
        assert app.main([*command, *where]) == 0
    assert "front of " in capsys.readouterr().out
    report = StudyReport.of(study, lambda params: None)
    assert any(line.startswith("Front: ") for line in report.summary())
    titles = [section.title for section in make_sections(report)]
    assert "toy: the search" in titles
    assert reproduce(study, front[0].number).identical
    with pytest.raises(SearchError, match="has two metrics, so no one trial is its best"):
        reproduce(study)


def test_a_trial_that_diverges_has_no_values_and_tpe_goes_on(make, sqlite_url):
    space = SPACE + '\nhow = { choice = ["well", "diverged"] }'
    extra = "[sampler]\nname = 'tpe'\nn_startup_trials = 2"
    study = make(sqlite_url, trials=12, space=space, extra=extra)
    run(study)
    pruned = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert pruned
    assert all(t.values is None and t.intermediate_values for t in pruned)
    assert study.status().pruned == len(pruned)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("[pruner]\nname = 'median'", "compares trials by one value, got the pruner median and tw"),
        ("[control]\ntrials = 2", r"\[control\] compares trials by one value, got 2 trials"),
        ("[sampler]\nname = 'cma-es'", "the sampler cma-es takes one metric, got two"),
        ("[sampler]\nname = 'freeze-thaw'", "freeze-thaw needs one metric"),
    ],
)
def test_what_needs_one_value_is_refused(extra, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(text(extra=extra, budget="steps = 5"), where="f.toml")


@pytest.mark.parametrize("rule", ["target = 0.9", "patience = 3"])
def test_a_stop_rule_is_refused(rule):
    with pytest.raises(SpecError, match=f"budget.{rule.split()[0]} compares trials by one value"):
        parse_spec(text(budget=rule), where="f.toml")


def test_a_trial_that_is_stopped_by_hand_has_no_values(make, sqlite_url):
    study = make(sqlite_url, trials=3, space=SPACE)
    claim = study.ledger.claim("w")
    study.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, 1, 0.5)
    study.stop(claim.trial.number)
    run(study)
    assert study.trials[0].values is None
    assert study.status().complete == 2


@pytest.mark.parametrize(
    ("aims", "message"),
    [
        (AIMS + '\nmetric = "value"', "metrics stands for metric and direction, got both; remove"),
        ("metrics = []", "metrics lists one or 2 metrics, got 0"),
        (AIMS.replace("latency_ms", "value"), "metrics lists 'value' twice"),
        ('metrics = [{ name = "value" }]', r"metrics\[0\]: direction is missing"),
        ('metrics = [{ name = "value", direction = "up" }]', "direction must be maximize or min"),
    ],
)
def test_metrics_that_cannot_be_are_refused(aims, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(text().replace(AIMS, aims), where="f.toml")


def test_a_second_metric_that_the_problem_does_not_have_is_refused():
    spec = parse_spec(text().replace("latency_ms", "latency"), where="f.toml")
    with pytest.raises(SpecError, match="has no metric 'latency'; did you mean 'latency_ms'"):
        validate(spec)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ("latency_ms", "need METRIC<=NUMBER or METRIC>=NUMBER"),
        ("latency_ms<=fast", "need METRIC<=NUMBER or METRIC>=NUMBER"),
        ("latency<=1", "has no metric 'latency'; it has latency_ms"),
        ("latency_ms<=-1", r"no trial of the front of study 'toy' keeps latency_ms <= -1; trial"),
    ],
)
def test_a_preference_that_cannot_be_kept_is_one_line(make, sqlite_url, bound, message):
    study = make(sqlite_url, trials=3, space=SPACE)
    with pytest.raises(NoResult, match="has no complete trial"):
        _ = study.pareto
    run(study)
    with pytest.raises(SearchError, match=message):
        study.preferred(bound)


def test_fronts_of_equal_and_of_dominated_points():
    values = [(1, 1), (1, 1), (2, 2), (0, 0), (2, 1), (0, 3), (3, 3)]
    trials = [
        optuna.trial.create_trial(values=list(map(float, v)), params={}, distributions={})
        for v in values
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(trials)
    assert {t.number for t in front_of(trials, ["maximize", "minimize"])} == {
        t.number for t in study.best_trials
    }
