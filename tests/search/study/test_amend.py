"""A study is amended by a changed file: new trials follow it, old ones stay what they were."""

import json
import threading
from collections import Counter

import pytest
from optuna.trial import TrialState
from toy import toy_spec, whole_curve

import search
from search import attributes
from search.cli import app
from search.dashboard.private import stored_note
from search.errors import SearchError, SpecError
from search.ledger.attempt import Fresh
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.spec import parse_spec
from search.spec.amend import revised
from search.supervisor.run import annotate
from search.worker.reproduce import reproduce
from search.worker.worker import work

OLD = """x = { float = [0.0, 0.5] }
way = { choice = ["up", "down"] }
gone = { int = [1, 4] }
"""
NEW = """x = { float = [0.25, 2.0] }
way = { choice = ["up", "left"] }
more = { float = [1e-3, 1.0], log = true }
"""
SAMPLER = '[sampler]\nname = "tpe"\nn_startup_trials = 4\n'


def run(study, **options):
    return work(study, name="w", stop=threading.Event(), **options)


def numbers(study):
    return [trial.user_attrs.get(attributes.AMENDMENT, 0) for trial in study.trials]


@pytest.mark.slow
def test_new_trials_follow_the_file_and_old_ones_stay(make_study, storage_url):
    fixed = "[fixed]\nsteps = 3\n"
    study = make_study(trials=8, space=OLD, extra=SAMPLER + fixed, storage=storage_url)
    run(study)
    wider = toy_spec(trials=20, space=NEW, extra=SAMPLER + "[fixed]\nsteps = 2\n")
    made = study.amend(wider)
    assert made.changes["space.x"] == ({"float": [0.0, 0.5]}, {"float": [0.25, 2.0]})
    assert made.changes["space.gone"][1] is None
    assert made.changes["fixed.steps"] == (3, 2)
    assert made.changes["budget.trials"] == (8, 20)
    assert "# space.gone is removed\n" in made.text
    run(study)
    assert numbers(study) == [0] * 8 + [1] * 12
    assert study.status().done
    for trial in study.trials[8:]:
        assert set(trial.params) == {"x", "way", "more"}
        assert trial.params["x"] >= 0.25
        assert trial.params["way"] in ("up", "left")
        assert (len(trial.intermediate_values), study.params(trial)["steps"]) == (2, 2)
    old = study.trials[0]
    assert (len(old.intermediate_values), study.params(old)["steps"]) == (3, 3)
    replay = reproduce(study, 0)
    assert replay.identical
    frame = study.trials_frame()
    assert list(frame["param_steps"]) == [3] * 8 + [2] * 12
    assert list(frame["amendment"].fillna(0)) == [0] * 8 + [1] * 12
    titles = [section.title for section in make_sections(StudyReport.of(study, lambda p: None))]
    assert "toy: the search" in titles
    for draw in (study.plot.history, study.plot.slices, study.plot.parallel):
        assert draw().data


def test_the_sampler_sees_what_lies_in_the_new_space(make_study):
    study = make_study(trials=12, space="x = { float = [0.0, 1.0] }\nway = { choice = [1, 2] }")
    run(study)
    xs = [t.params["x"] for t in study.trials if t.params["way"] == 2]
    study.amend(toy_spec(trials=13, space="x = { float = [0.25, 0.75] }", extra="[fixed]\nway = 2"))
    seen = study.searched(1).get_trials()
    assert [t.params for t in seen] == [{"x": x} for x in xs if 0.25 <= x <= 0.75]
    assert all((t.distributions["x"].low, t.distributions["x"].high) == (0.25, 0.75) for t in seen)
    assert len(study.trials) == 12
    assert study.best.number in range(12)  # all stay on record
    # Back in the first space, what the narrow one proposed is a part of it.
    run(study)
    study.amend(toy_spec(trials=14, space="x = { float = [0.0, 1.0] }\nway = { choice = [1, 2] }"))
    seen = study.searched(2).get_trials()
    assert len(seen) == 13
    assert seen[12].params == {"x": study.trials[12].params["x"], "way": 2}
    run(study)
    assert numbers(study) == [0] * 12 + [1, 2]


@pytest.mark.slow
def test_a_worker_at_work_follows_with_its_next_trial(make_study, storage_url):
    study = make_study(trials=4, extra="[fixed]\nsteps = 2", storage=storage_url)
    other = make_study(trials=4, extra="[fixed]\nsteps = 2", storage=storage_url)
    claim = other.ledger.claim("b", lambda n: Fresh(amendment=0))  # begins by the first spec
    calls = []

    def amend_at_first():
        calls.append(1)
        if len(calls) == 1:
            other.amend(toy_spec(trials=5, space="x = { float = [5.0, 6.0] }"))
            other.ledger.release(claim)

    assert run(study, on_trial=amend_at_first)
    by_lineage = {t.user_attrs[attributes.LINEAGE]: t for t in study.trials}
    assert Counter(t.state for t in study.trials) == {TrialState.COMPLETE: 5}
    # The released trial was proposed before, so it is run by the first spec.
    assert [by_lineage[n].user_attrs.get(attributes.AMENDMENT, 0) for n in range(5)] == [
        0, 0, 1, 1, 1,
    ]  # fmt: skip
    for lineage, trial in by_lineage.items():
        x, steps = trial.params["x"], study.params(trial).get("steps", 4)
        assert (x <= 1, steps) == ((True, 2) if lineage < 2 else (False, 4))
        assert list(trial.intermediate_values.values()) == whole_curve(
            study.spec.trial_seed(lineage), x, steps
        )


def test_a_claim_by_the_spec_before_is_void(make_study):
    study = make_study(trials=2)
    study.amend(toy_spec(trials=2, space="x = { float = [5.0, 6.0] }"))
    assert study.ledger.claim("w", lambda n: Fresh(amendment=0)) is None
    claim = study.ledger.claim("w", lambda n: Fresh(amendment=1))
    assert claim is not None
    assert claim.trial.user_attrs[attributes.AMENDMENT] == 1


@pytest.mark.slow
def test_paused_trials_outside_the_new_space_do_not_go_on(make_study):
    options = {"budget": "steps = 12", "extra": '[sampler]\nname = "freeze-thaw"'}
    study = make_study("toy:Pausing", trials=20, space="x = { float = [0.0, 1.0] }", **options)
    stop = threading.Event()
    work(study, name="w", stop=stop, on_trial=stop.set)
    steps = {t.number: len(t.intermediate_values) for t in study.trials}
    more = {**options, "budget": "steps = 24"}
    study.amend(toy_spec("toy:Pausing", trials=20, space="x = { float = [5.0, 6.0] }", **more))
    run(study)
    assert study.status().out_of_steps
    for trial in study.trials:
        if trial.number in steps:
            assert len(trial.intermediate_values) == steps[trial.number]
        else:
            assert trial.params["x"] >= 5
    assert {n for n in numbers(study)} == {0, 1}


def test_the_same_strategy_goes_on_where_the_file_leaves_it_open(make_study):
    study = make_study("toy:Pausing", trials=3, budget="steps = 20", extra="")
    assert study.sampler.name == "freeze-thaw"
    with pytest.raises(SpecError, match="needs a budget of hours or steps"):
        study.amend(toy_spec("toy:Pausing", trials=3))
    study.amend(toy_spec("toy:Pausing", trials=3, budget="steps = 30"))
    assert (study.sampler.name, study.spec.steps) == ("freeze-thaw", 30)


def spec_of(**options):
    return parse_spec(toy_spec(**options), where="toy")


NAMED = '[[trials]]\nname = "a"\nparams = { x = 0.5 }\n'
GRID = {"space": "x = { choice = [0.1, 0.2] }", "trials": 2, "extra": '[sampler]\nname = "grid"'}


@pytest.mark.parametrize(
    ("before", "since", "message"),
    [
        ({}, {"name": "other"}, "name of study 'toy' cannot change, got 'other' for 'toy'"),
        ({}, {"problem": "toy:Pausing"}, "problem of study 'toy' cannot change"),
        ({}, {"extra": "[data]\nn = 2"}, "data of study 'toy' cannot change, got {'n': 2} for {}"),
        ({}, {"extra": "[workers]\nmax_retries = 1"}, "workers of study 'toy' cannot change"),
        ({}, {"extra": "[control]\ntrials = 1"}, "control.trials of study 'toy' cannot change"),
        ({}, {}, "says what study 'toy' is already"),
        ({}, {"budget": "# a comment"}, "says what study 'toy' is already"),
        ({}, {"trials": 5}, "cannot shrink, got budget.trials = 5 where it has 6"),
        ({}, {"extra": NAMED}, "[[trials]] 'a' is new or changed"),
        ({"extra": NAMED}, {"extra": NAMED.replace("0.5", "0.6")}, "[[trials]] 'a' is new or"),
        ({}, GRID | {"trials": 2}, "the sampler of study 'toy' is auto and cannot become grid"),
        (GRID, GRID | {"space": "x = { choice = [0.1, 0.3] }"}, "searches a grid, whose points"),
        ({}, {"budget": "steps = 9", "extra": '[sampler]\nname = "freeze-thaw"'},
         "cannot become freeze-thaw, as with freeze-thaw only its trials pause"),
    ],
)  # fmt: skip
def test_what_cannot_change_is_refused_in_one_line(before, since, message):
    with pytest.raises(SpecError) as refused:
        revised(spec_of(**before), spec_of(**since))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_metric_the_direction_the_seed_and_the_folds_cannot_change():
    for old, new in (
        ('metric = "value"', 'metric = "loss"'),
        ('"maximize"', '"minimize"'),
        ("[budget]", "seed = 1\n[budget]"),
        ("[budget]", 'mode = "cross-validation"\n[budget]'),
    ):
        with pytest.raises(SpecError, match="of study 'toy' cannot change"):
            revised(spec_of(), parse_spec(toy_spec().replace(old, new, 1), where="toy"))


def test_a_named_trial_may_go_once_it_has_begun(make_study):
    named = NAMED + NAMED.replace('"a"', '"b"')
    study = make_study(trials=3, extra=named)
    narrow = toy_spec(trials=3, space="x = { float = [5.0, 6.0] }")
    with pytest.raises(SpecError, match="the trial 'a' has not begun, and the file no longer has"):
        study.amend(narrow)
    claims = [study.ledger.claim("w", lambda n: Fresh(amendment=0)) for _ in range(2)]
    study.amend(narrow)
    for claim in claims:
        study.ledger.release(claim)
    run(study)
    assert numbers(study) == [0, 0, 1]


def test_a_problem_that_refuses_the_new_space_changes_nothing(make_study):
    study = make_study(trials=2)
    with pytest.raises(SearchError, match="need x <= 100, got 200"):
        study.amend(toy_spec(trials=2, space="x = { float = [0.0, 200.0] }"))
    assert study.amendments == ()


def test_the_command(make_study, sqlite_url, tmp_path, capsys, monkeypatch):
    def call(*argv, code=0):
        assert app.main(["amend", "toy", str(file), *argv, "--storage", sqlite_url]) == code
        return capsys.readouterr()

    study = make_study(trials=3)
    file = tmp_path / "wider.toml"
    file.write_text(toy_spec(trials=4, space="x = { float = [0.0, 2.0] }", budget="target = 9.0"))
    said = call(code=2)
    assert "  space.x { float = [0.0, 1.0] } -> { float = [0.0, 2.0] }\n" in said.out
    assert "  budget.target added: 9\n" in said.out
    assert "got nobody to ask; add --yes" in said.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert "needs a y, got 'n'; nothing was changed" in call(code=2).err
    monkeypatch.setattr("builtins.input", lambda _: study.extend(trials=1) and "y")
    assert "was amended meanwhile" in call(code=2).err
    assert "a study cannot shrink" not in call("--yes", code=0).out  # 4 trials it has by now
    assert "says what study 'toy' is already" in call("--yes", code=2).err
    file.write_text(toy_spec(trials=4, space="x = { float = [0.0, 3.0] }", budget="target = 9.0"))
    made = json.loads(call("--yes", "--json").out)
    study.refresh()
    assert made == study.amendments[2].to_json()
    assert made["replaced"] == {"space.x": {"float": [0.0, 2.0]}}
    again = search.create(file, storage=sqlite_url)  # it says what the study has become
    assert len(again.amendments) == 3
    again.storage.close()


def test_many_amendments_are_told_in_few_lines(make_study, sqlite_url, capsys):
    study = make_study(trials=1)
    for _ in range(30):
        study.extend(trials=1)
    assert app.main(["status", "toy", "--storage", sqlite_url]) == 0
    out = capsys.readouterr().out
    assert "27 earlier amendments, see --json" in out
    assert "amendment 30 of" in out
    assert out.count("budget.trials") == 3
    annotate(study)
    note = stored_note(study.optuna)
    assert "The study was amended 30 times, the last 2 are:" in note
    assert len(note) <= 2045


def test_what_was_taken_over_from_earlier_studies_stays(make_study, sqlite_url):
    old = make_study("toy:Improving", name="old", trials=6, extra='[sampler]\nname = "random"')
    run(old)
    prior = f'[prior]\nstudies = ["old@{sqlite_url}"]\ntrials = 1\n[sampler]\nname = "tpe"\n'
    study = make_study("toy:Improving", name="new", trials=3, extra=prior)
    narrow = {"name": "new", "trials": 4, "extra": prior, "space": "x = { float = [0.5, 0.6] }"}
    with pytest.raises(SpecError, match=r"the trial 'old-\d' has not begun, .* let it run first"):
        study.amend(toy_spec("toy:Improving", **narrow))
    stop = threading.Event()
    work(study, name="w", stop=stop, on_trial=stop.set)
    study.add({"x": 0.9})
    with pytest.raises(SpecError, match=r"the trial that was added with x = 0.9 has not begun"):
        study.amend(toy_spec("toy:Improving", **narrow))
    run(study)
    study.amend(toy_spec("toy:Improving", **narrow))
    run(study)
    assert study.status().done
    assert study.trials[0].params["x"] == old.best.params["x"]  # was given in advance
    seen = study.searched(2).get_trials(deepcopy=False)
    assert all(0.5 <= trial.params["x"] <= 0.6 for trial in seen)
    with pytest.raises(SpecError, match="prior of study 'new' cannot change"):
        study.amend(toy_spec("toy:Improving", **narrow | {"extra": '[sampler]\nname = "tpe"'}))


def test_a_list_that_changed_leaves_nothing_that_could_be_confirmed(make_study):
    """The list changes first, and [confirm] comes with a later amendment."""

    def text(units, confirm=""):
        return toy_spec(trials=4, extra=f"[fixed]\nunits = {units}\nsteps = 1\n{confirm}")

    confirm = '[confirm]\ntop = 2\nseeds = 2\nsplits = "same"\n'
    study = make_study(trials=4, extra="[fixed]\nunits = [8, 8]\nsteps = 1\n")
    run(study)
    study.amend(text("[8, 16]"))
    for units, message in (
        ("[8, 16]", "is a list or a table and was changed by an amendment, .* remove .confirm."),
        ("[8, 8]", "is a list or a table and cannot change, .* leave it as it is"),
        ("8", "is a list or a table and cannot change"),
    ):
        with pytest.raises(SpecError, match=rf"^fixed.units of study 'toy' {message}"):
            study.amend(text(units, confirm))
    assert len(study.amendments) == 1
    search.work(study)  # is over


def test_a_type_that_changed_leaves_nothing_that_could_be_confirmed(make_study):
    """Repeats of 1, true and 1.0 would be one and the same trial to Optuna."""

    def text(alpha, confirm=""):
        return toy_spec(trials=4, extra=f"[fixed]\nsteps = 1\nalpha = {alpha}\n{confirm}")

    confirm = '[confirm]\ntop = 2\nseeds = 2\nsplits = "same"\n'
    study = make_study(trials=4, extra="[fixed]\nsteps = 1\nalpha = 1\n")
    run(study)
    with pytest.raises(
        SpecError, match=r"is 1 and true at times, .* and cannot change, but \[conf"
    ):
        study.amend(text("true", confirm))
    study.amend(text("true"))
    with pytest.raises(SpecError, match=r"is 1 and true at times, .* was changed by an amendment"):
        study.amend(text("true", confirm))
    with pytest.raises(SpecError, match=r"^fixed.alpha of study 'toy' is 1 and true at times"):
        study.amend(text("2", confirm))
    assert len(study.amendments) == 1


def test_a_fixed_value_that_is_not_a_number_stays_the_same(make_study):
    """NaN equals nothing, and what was proposed with it would lie outside of every space."""
    fixed = "[data]\nmissing = nan\n[fixed]\nsteps = 1\nclip = nan\nclips = [1.0, nan]\n"
    study = make_study(trials=3, extra=fixed)
    run(study)
    study.extend(trials=1)
    assert len(study.searched(1).get_trials(deepcopy=False)) == 3
    study.amend(toy_spec(trials=5, space="x = { float = [0.0, 2.0] }", extra=fixed))
    assert len(study.searched(2).get_trials(deepcopy=False)) == 3
    with pytest.raises(SpecError, match="says what study 'toy' is already"):
        study.amend(toy_spec(trials=5, space="x = { float = [0.0, 2.0] }", extra=fixed))
