"""`[refit]`: what replaces the parameters of a trial, and what does not go with them."""

import pytest
from toy import toy_spec

import search
from search.aims.refit import refit_params
from search.errors import ProblemError, SpecError
from search.spec import parse_spec

SPACE = """x = { float = [0.0, 1.0] }
way = { choice = ["up", "down"] }
speed = { int = [1, 9], when = { way = "up" } }
layers = { int = [1, 3] }
units = { int = [1, 9], for_each = "layers" }
"""
TRIAL = {"x": 0.5, "way": "up", "speed": 3, "layers": 2, "units_0": 4, "units_1": 5}


@pytest.mark.parametrize(
    ("overrides", "params"),
    [
        ({"x": 7.5}, TRIAL | {"x": 7.5}),  # outside of the space
        ({"epochs": 9}, TRIAL | {"epochs": 9}),
        ({"way": "down"}, {k: v for k, v in TRIAL.items() if k != "speed"} | {"way": "down"}),
        ({"way": "down", "speed": 1}, TRIAL | {"way": "down", "speed": 1}),  # the problem judges
        ({"layers": 1}, {k: v for k, v in TRIAL.items() if k != "units_1"} | {"layers": 1}),
        ({"layers": 3, "units": 8},
         {k: v for k, v in TRIAL.items() if "units" not in k} | {"layers": 3, "units": 8}),
        ({"units_1": 1}, TRIAL | {"units_1": 1}),
    ],
)  # fmt: skip
def test_what_applies_no_longer_is_left_out(overrides, params):
    space = parse_spec(toy_spec(space=SPACE), where="toy").space
    assert space.overridden(TRIAL, overrides) == params


def test_a_number_of_layers_that_is_none_is_refused_at_creation(tmp_path):
    for value in ('"two"', "1.5", "true"):
        text = toy_spec(space=SPACE, extra=f"[refit]\nlayers = {value}\n")
        with pytest.raises(ProblemError, match="layers must be a whole number, got"):
            search.create(text, storage=f"sqlite:///{tmp_path / 'x.db'}")


def test_an_earlier_trial_has_the_parameters_of_its_own_space(make_study):
    study = make_study(trials=1, space=SPACE, extra="[fixed]\nsteps = 1\n")
    search.work(study)
    (trial,) = study.trials

    def params():
        proposed = study.specs.of(trial)
        return refit_params(
            study.problem, study.spec, study.params(trial), proposed=proposed, whose="trial 0"
        )

    assert params() == study.params(trial)
    refit = "[refit]\nsteps = 5\n"
    study.amend(toy_spec(trials=2, extra=f"[fixed]\nsteps = 2\n{refit}"))
    assert params() == study.params(trial) | {"steps": 5}
    study.amend(toy_spec(trials=2, extra="[fixed]\nsteps = 2\n[refit]\nway = 1\n"))
    trial_params = {k: v for k, v in study.params(trial).items() if k != "speed"}
    assert params() == trial_params | {"way": 1}


def test_a_problem_that_refuses_is_one_line_that_names_the_table(make_study):
    with pytest.raises(
        ProblemError, match=r"^change \[refit\], which does not go with the parameters of some"
    ):
        make_study(trials=1, extra="[refit]\nx = 101\n")


def test_a_constraint_holds_for_the_refit_as_well(make_study):
    bound = "[constraints.size]\nmax = 5\n"
    with pytest.raises(ProblemError, match="need size <= 5, got 90; change .refit., or"):
        make_study("toy:Sized", trials=1, extra=f"{bound}[refit]\nx = 9\n")
    make_study("toy:Sized", trials=1, extra=f"{bound}[refit]\nx = 0.1\n")


def test_a_problem_that_is_never_trained_again_takes_no_table(make_study):
    with pytest.raises(SpecError, match="'toy:Unexported' without the method refit_params; leave"):
        make_study("toy:Unexported", trials=1, extra="[refit]\nx = 0.5\n")
