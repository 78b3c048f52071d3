"""One more trial with given parameters: next in turn, counted once."""

import json
import threading

import pytest
from toy import toy_spec

import search
from search import attributes
from search.cli import app
from search.errors import SpecError
from search.spec import parse_spec
from search.spec.amend import added
from search.worker.worker import work

SPACE = """x = { float = [0.0, 1.0] }
way = { choice = ["up", "down"] }
height = { int = [1, 8], when = { way = "up" } }
layers = { int = [1, 3] }
units = { int = [4, 64], for_each = "layers" }
"""


def lineages(study):
    return [trial.user_attrs[attributes.LINEAGE] for trial in study.trials]


def test_it_is_next_in_turn_and_n_becomes_n_and_1(make_study, storage_url):
    study = make_study(trials=3, space=SPACE, storage=storage_url)
    made = study.add({"x": 0.25, "way": "up", "height": 3})
    assert (made.trials, made.text) == (4, 'add = { x = 0.25, way = "up", height = 3 }\n')
    assert study.status().budget == 4
    work(study, name="w", stop=threading.Event())
    assert lineages(study) == [3, 0, 1, 2]
    first = study.trials[0]
    assert {name: first.params[name] for name in ("x", "way", "height")} == made.given
    assert "layers" in first.params  # sampled
    assert attributes.NAME not in first.user_attrs
    assert [t.user_attrs.get(attributes.AMENDMENT) for t in study.trials] == [1] * 4
    study.add({"x": 0.75})
    assert not study.status().done
    work(study, name="w", stop=threading.Event())
    assert (lineages(study)[-1], study.trials[-1].params["x"]) == (4, 0.75)
    assert study.status().done


def test_a_grid_and_the_control_do_not_move(make_study):
    study = make_study(trials=2, space="x = { choice = [0.1, 0.2, 0.3, 0.4] }",
                       extra='[sampler]\nname = "grid"')  # fmt: skip
    study.add({"x": 0.3})
    study.extend(trials=2)
    work(study, name="w", stop=threading.Event())
    assert sorted(t.params["x"] for t in study.trials) == [0.1, 0.2, 0.3, 0.3, 0.4]
    with pytest.raises(SpecError, match="all points of its grid"):
        study.extend(trials=1)
    controlled = make_study(name="controlled", trials=8, extra="[control]\ntrials = 2")
    controlled.add({"x": 0.5})
    controlled.extend(trials=8)
    arms = [controlled.spec.is_control(n) for n in range(17)]
    assert arms[8] is False
    assert [sum(arms[:8]), sum(arms[9:])] == [2, 2]


@pytest.mark.slow
def test_of_a_study_whose_trials_pause_the_rest_is_drawn(make_study):
    study = make_study("toy:Pausing", trials=2, budget="steps = 40",
                       space="x = { float = [0.0, 1.0] }\ny = { float = [0.0, 1.0] }",
                       extra='[sampler]\nname = "freeze-thaw"')  # fmt: skip
    study.add({"x": 0.25})
    work(study, name="w", stop=threading.Event())
    (mine,) = [t for t in study.trials if t.user_attrs[attributes.LINEAGE] == 2]
    assert (mine.number, mine.params["x"], set(mine.params)) == (0, 0.25, {"x", "y"})
    assert study.status().ended == 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "need at least one parameter with its value, got none"),
        ({"x": 2.0}, "x = 2.0 lies outside the space; from 0.0 to 1.0"),
        ({"x": "fast"}, "x = 'fast' lies outside the space; from 0.0 to 1.0"),
        ({"way": "left"}, "way = 'left' lies outside the space; one of 'up', 'down'"),
        ({"z": 1}, "the space has no parameter 'z'; it has x, way, height, layers, units_0"),
        ({"hieght": 2}, "the space has no parameter 'hieght'; did you mean 'height'?"),
        ({"steps": 4}, "steps is fixed at 4 and is not searched; leave it out"),
        ({"height": 2}, "height: it applies only when way is 'up'; give way as well"),
        ({"height": 2, "way": "down"}, "height does not apply here; it applies only when way is"),
        ({"units_2": 8, "layers": 2}, "units_2 does not apply here; it applies only when its"),
        ({"units_1": 8}, "units_1: it applies only when its index is below layers; give layers"),
        ({"units": 8}, "the space has no parameter 'units'; did you mean 'units_0'?"),
    ],
)
def test_what_the_space_does_not_allow_is_refused(params, message):
    spec = parse_spec(toy_spec(space=SPACE, extra="[fixed]\nsteps = 4"), where="toy")
    with pytest.raises(SpecError) as refused:
        added(spec, params)
    assert message in str(refused.value)


def test_what_the_problem_refuses_adds_nothing(make_study):
    study = make_study(trials=1, space="x = { float = [0.0, 100.0] }")
    study.problem.check = lambda params: (_ for _ in ()).throw(search.ProblemError("too large"))
    with pytest.raises(search.ProblemError, match="too large"):
        study.add({"x": 99.0})
    assert study.status().budget == 1


def test_the_command(make_study, sqlite_url, capsys):
    study = make_study(trials=2, space=SPACE)
    assert app.main(["add", "toy", "--params", "x=5e-1,way=down", "--storage", sqlite_url]) == 0
    out = capsys.readouterr().out
    assert "has 3 trials now" in out
    assert '1 trial added with x = 0.5, way = "down"' in out
    assert f"`python -m search run toy --storage {sqlite_url}` runs the new trials" in out
    assert app.main(["add", "toy", "--params", "x=1", "--json", "--storage", sqlite_url]) == 0
    assert json.loads(capsys.readouterr().out) == study.status().amendments[1].to_json()
    assert app.main(["add", "toy", "--params", "x=7", "--storage", sqlite_url]) == 2
    assert capsys.readouterr().err.startswith("error: --params: x = 7 lies outside the space; from")
    for wrong in ("x", "x=1,,way=up", "a.b=1", "x=1,x=2"):
        with pytest.raises(SystemExit) as left:
            app.main(["add", "toy", "--params", wrong, "--storage", sqlite_url])
        err = capsys.readouterr().err
        assert (left.value.code, err.count("\n")) == (2, 1)
    assert study.status().budget == 4
