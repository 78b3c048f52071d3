"""Flat parameters become checked records, or one clear line."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, TrainingConfig, from_json, parse

CASE_5: dict[str, Any] = {
    "family": "cnn",
    "blocks": 3,
    "channels_0": 32,
    "channels_1": 64,
    "channels_2": 128,
    "activation": "leaky_relu",
    "dropout_0": 0.25,
    "dropout_1": 0.25,
    "dropout_2": 0.4,
    "dense_units": 128,
    "dense_dropout": 0.3,
}


def test_everything_but_the_family_has_a_default() -> None:
    assert parse({"family": "ann"}) == (ANNConfig(), TrainingConfig())
    assert parse({"family": "cnn"}) == (CNNConfig(), TrainingConfig())


def test_one_value_per_layer() -> None:
    network, _ = parse(CASE_5)
    assert network == CNNConfig(
        channels=(32, 64, 128),
        dropout=(0.25, 0.25, 0.4),
        activation="leaky_relu",
        dense_units=(128,),
        dense_dropout=0.3,
    )


def test_one_value_for_all_layers() -> None:
    network, _ = parse({"family": "ann", "layers": 3, "hidden_units": 64, "dropout": 0.2})
    assert network == ANNConfig(hidden_units=(64, 64, 64), dropout=(0.2, 0.2, 0.2))


def test_no_dense_layer() -> None:
    network, _ = parse({"family": "cnn", "dense_layers": 0, "head": "average"})
    assert network == CNNConfig(head="average", dense_units=())


def test_numbers_are_normalised() -> None:
    network, training = parse(
        {"family": "ann", "layers": np.int64(1), "hidden_units": np.int32(8), "learning_rate": 1}
    )
    assert network.to_json() == ANNConfig(hidden_units=(8,), dropout=(0.0,)).to_json()
    assert isinstance(training.learning_rate, float)


@pytest.mark.parametrize("params", [{"family": "ann", "layers": 4}, CASE_5])
def test_json_round_trip(params: dict[str, Any]) -> None:
    network, _ = parse(params)
    assert from_json(network.to_json()) == network
    assert json.loads(network.to_json())["family"] == params["family"]


@pytest.mark.parametrize(
    ("params", "rule", "received", "remedy"),
    [
        ({}, "family is missing", "", '"ann" or "cnn"'),
        ({"family": "svm"}, '"ann", "cnn"', "'svm'", "choose"),
        ({"hiden_units": 3}, "unknown", "'hiden_units'", "'hidden_units'"),
        ({"zzz": 3}, "unknown", "'zzz'", "learning_rate"),
        ({"learning_rate_0": 0.1}, "unknown", "'learning_rate_0'", "'learning_rate'"),
        ({"kernel_size": 3}, "does not apply to family 'ann'", "kernel_size", "when ="),
        ({"channels_0": 3}, "does not apply to family 'ann'", "channels_0", "when ="),
        ({"batch_norm_0": True}, "unknown", "'batch_norm_0'", "did you mean 'batch_norm'?"),
        ({"activation_1": "relu"}, "unknown", "'activation_1'", "did you mean 'activation'?"),
        ({"kernel_size_0": 3}, "unknown", "'kernel_size_0'", "did you mean 'kernel_size'?"),
        ({"family": "cnn", "batch_norm_0": True}, "unknown", "'batch_norm_0'", "'batch_norm'?"),
        ({"family": "cnn", "layers_0": 2}, "unknown", "'layers_0'", "did you mean 'layers'?"),
        ({"family": "cnn", "hidden_units_0": 2}, "apply to family 'cnn'", "hidden_units_0", "ann"),
        ({"layers": 0}, "1 <= layers <= 6", "layers=0", "choose"),
        ({"layers": 7}, "1 <= layers <= 6", "layers=7", "choose"),
        ({"layers": 2.0}, "whole number", "2.0", "like 3"),
        ({"layers": True}, "whole number", "True", "like 3"),
        ({"dropout": 1.0}, "0 <= dropout < 1", "dropout=1.0", "choose"),
        ({"dropout_0": 0.1}, "dropout_1 is missing", "layers=2", "add it"),
        ({"dropout_2": 0.1}, "one too many", "dropout_2", "raise layers"),
        ({"dropout": 0.1, "dropout_0": 0.1}, "exclude each other", "dropout_0", "one kind"),
        ({"learning_rate": 0}, "0 < learning_rate", "learning_rate=0", "choose"),
        ({"learning_rate": float("nan")}, "0 < learning_rate", "nan", "choose"),
        ({"learning_rate": "fast"}, "must be a number", "'fast'", "like 0.5"),
        ({"momentum": 0.9}, '"sgd" only', '"adam"', "leave it out"),
        ({"activation": "relo"}, "must be one of", "'relo'", "'relu'"),
        ({"batch_norm": 1}, "true, false", "1", "choose"),
        ({"batch_size": 1}, "2 <= batch_size", "batch_size=1", "choose"),
        ({"report_every": 0.3}, "must be one of 1.0, 0.5", "0.3", "did you mean"),
        (
            {"optimizer": "schedule-free", "schedule": "cosine"},
            'takes schedule "constant" only',
            '"cosine"',
            "leave schedule out",
        ),
        ({"optimizer": "schedule-free", "average": 0.99}, "average of its own", "0.99", "leave"),
        ({"flip_in_turn": True}, "flip true only", "flip false", "leave it out"),
        ({"family": "cnn", "shortcut": True}, "convolutions >= 2", "convolutions=1", "when ="),
        ({"resize": 0.5}, 'cnn with head = "average"', "resize=0.5", "leave resize out"),
        ({"family": "cnn", "resize": 0.5}, 'head = "average"', "resize=0.5", "set that head"),
        ({"resize": 0.1}, "0.25 <= resize <= 1", "resize=0.1", "choose"),
        ({"batch_norm_scale": False}, "batch_norm true only", "batch_norm false", "leave it out"),
        ({"whitening": True}, "does not apply to family 'ann'", "whitening", "when ="),
        ({"family": "cnn", "init": "zero"}, '"default", "identity"', "'zero'", "choose"),
        ({"precision": "fp16"}, '"bf16"', "'fp16'", "did you mean"),
    ],
)
def test_one_clear_line(params: dict[str, Any], rule: str, received: str, remedy: str) -> None:
    if params and "family" not in params:
        params = {"family": "ann", **params}
    with pytest.raises(InputError) as caught:
        parse(params)
    message = str(caught.value)
    assert rule in message
    assert received in message
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"family": "rnn"}',
        '{"family": "ann"}',
        json.dumps(json.loads(ANNConfig().to_json()) | {"hidden_units": 3}),
        json.dumps(json.loads(ANNConfig().to_json()) | {"dropout": [0.1]}),
        json.dumps(json.loads(ANNConfig().to_json()) | {"extra": 1}),
        json.dumps(json.loads(CNNConfig().to_json()) | {"kernel_size": 4}),
    ],
)
def test_stored_networks_are_checked(text: str) -> None:
    with pytest.raises(InputError):
        from_json(text)


def test_checking_imports_no_torch() -> None:
    code = "import sys, fmnist_hpo.networks.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_images_grow_for_two_thirds_of_the_epochs() -> None:
    how = TrainingConfig(epochs=6, resize=0.5)
    assert [how.scale(epoch) for epoch in range(6)] == [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    assert how.relative_cost == pytest.approx((0.25 + 0.390625 + 0.5625 + 0.765625 + 2) / 6)
    assert TrainingConfig(epochs=1, resize=0.5).scale(0) == 0.5
    assert TrainingConfig(epochs=5).relative_cost == 1
