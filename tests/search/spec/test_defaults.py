"""`default` of a parameter: the first trial of a study stands at the defaults."""

import threading

import pytest
from toy import toy_spec

from search.cli.plan_text import print_plan
from search.errors import SpecError
from search.plan.plan import make_plan
from search.spec import parse_spec
from search.study import validate
from search.worker.worker import work

SPACE = """
x = { float = [0.0, 1.0], default = 1 }
optimizer = { choice = ["adam", "sgd"], default = "adam" }
momentum = { float = [0.0, 0.9], when = { optimizer = "sgd" } }
layers = { int = [1, 3], default = 2 }
units = { int = [8, 64], for_each = "layers", default = 16 }
activation = { choice = ["gelu"] }
"""
NAMED = '[[trials]]\nname = "mine"\nparams = { x = 0.5 }'


def test_the_first_trial_is_the_defaults(make_study):
    study = make_study(trials=2, space=SPACE)
    work(study, name="w", stop=threading.Event())
    first, other = study.trials
    point = {"x": 1.0, "optimizer": "adam", "layers": 2, "units_0": 16, "units_1": 16,
             "activation": "gelu"}  # fmt: skip
    assert first.params == point
    assert first.user_attrs["name"] == "defaults"
    assert "name" not in other.user_attrs


def test_they_stand_before_named_trials_and_plan_shows_them(capsys):
    text = toy_spec(trials=3, space="x = { float = [0.0, 1.0], default = 0.25 }", extra=NAMED)
    spec = parse_spec(text, where="f.toml")
    assert [named.name for named in spec.named] == ["defaults", "mine"]
    print_plan(make_plan(spec, validate(spec), workers=1, threads=1, gpus=()))
    said = capsys.readouterr().out
    assert "named       defaults, mine\n" in said
    assert "continuous, default 0.25\n" in said


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("x = { float = [0.0, 1.0], default = 2 }", r"space.x: default = 2 lies outside the space"),
        ("x = { choice = [1, 2], default = true }", "default = True lies outside the space; one"),
        ("x = { int = [0, 9], step = 3, default = 4 }", "default = 4 lies outside the space; from"),
        (SPACE.replace(', default = "adam"', ', default = "sgd"'), "space.momentum has no default"),
        (SPACE.replace("default = 2", "log = false"), "space.layers has no default and applies"),
    ],
)
def test_a_default_that_is_none_is_refused(space, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(toy_spec(space=space), where="f.toml")


def test_the_name_is_taken():
    text = toy_spec(
        space="x = { float = [0.0, 1.0], default = 0.25 }", extra=NAMED.replace("mine", "defaults")
    )
    with pytest.raises(SpecError, match="the name 'defaults' is taken"):
        parse_spec(text, where="f.toml")
