"""Every hyperparameter is one field: parsing, errors, classifiers, documents follow from it."""

import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from sklearn.base import clone

from fmnist_hpo.errors import InputError
from fmnist_hpo.estimators import ANNClassifier, CNNClassifier
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, TrainingConfig, parse
from fmnist_hpo.parameters import check_fields, parameter, parameters, read, refuse_idle, rows
from fmnist_hpo.rules import Choice, Integer, Number

CLASSIFIERS = {"ann": (ANNClassifier, ANNConfig), "cnn": (CNNClassifier, CNNConfig)}
EVERY = [
    (family, name)
    for family, (_, config) in CLASSIFIERS.items()
    for name in parameters(config) | parameters(TrainingConfig)
]


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_field_is_everywhere(family: str, name: str) -> None:
    kind, config = CLASSIFIERS[family]
    known: Any = (parameters(config) | parameters(TrainingConfig))[name]
    assert known.doc.endswith(".")

    with pytest.raises(InputError, match=name):  # no rule allows it
        parse({"family": family, name: object()})
    if known.flat_default is not None and known.when is None:
        assert parse({"family": family, name: known.flat_default}) == parse({"family": family})

    assert inspect.signature(kind).parameters[name].default == known.flat_default
    model = kind(**{name: known.flat_default})
    assert model.get_params()[name] == known.flat_default
    assert clone(model).get_params() == model.get_params()
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()
    assert f"\n{name} : {known.rule.python_type}" in kind.__doc__
    if known.count is not None:
        assert known.count.name in inspect.signature(kind).parameters
        assert f"\n{known.count.name} : int" in kind.__doc__

    shown = {row[0]: row for one in (config, TrainingConfig) for row in rows(one)}
    assert str(known.rule) == shown[name][1]
    assert known.doc in shown[name][3]


def test_a_classifier_refuses_what_it_does_not_have() -> None:
    for kind in (ANNClassifier, CNNClassifier):
        with pytest.raises(TypeError, match="unexpected keyword argument 'hiden_units'"):
            kind(hiden_units=3)
        with pytest.raises(TypeError, match="positional"):
            kind(3)
    assert "channels" not in inspect.signature(ANNClassifier).parameters


@dataclass(frozen=True, kw_only=True)
class Baking:
    heat: float = parameter(Number(0, 300, open_low=True), 180, "Degrees Celsius.")
    fan: bool = parameter(Choice((True, False)), False, "Whether the air moves.")
    speed: int = parameter(Integer(1, 9), 5, "Of the fan.", when=("fan", True))
    rest: int | None = parameter(Integer(1, 60), None, "Minutes after baking.")

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_record_of_parameters() -> None:
    assert read(Baking, {"heat": 200, "other": 1}) == Baking(heat=200.0)
    assert isinstance(Baking(heat=7).heat, float)
    assert Baking(rest=None).rest is None
    with pytest.raises(InputError, match="need 1 <= rest <= 60, got rest=0"):
        Baking(rest=0)
    with pytest.raises(InputError, match="speed applies to fan true only, got fan false"):
        refuse_idle(Baking(speed=2), {"speed": 2})
    refuse_idle(Baking(speed=2, fan=True), {"speed": 2, "fan": True})
    assert list(rows(Baking)) == [
        ("heat", "above 0 to 300", "180", "Degrees Celsius."),
        ("fan", "true, false", "false", "Whether the air moves."),
        ("speed", "1 to 9", "5", "Of the fan. Only with `fan = true`."),
        ("rest", "1 to 60", "none", "Minutes after baking."),
    ]
