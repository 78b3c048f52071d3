"""Bundles changed together with their manifest: each is refused in one line."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.torch import load, save

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.kinds import logits
from fmnist_hpo.bundle.onnx_session import OPERATORS
from fmnist_hpo.bundle.predict import predict
from fmnist_hpo.errors import InputError

IMAGES = np.zeros((2, 28, 28), np.uint8)
Files = Mapping[str, bytes]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def tampered(exported: Bundle, change: Callable[[dict[str, bytes]], Files]) -> Bundle:
    """What a reader has of a bundle whose manifest was made to fit the changed files."""
    return Bundle(path=Path("b"), files=change(dict(exported.files)))


def configured(**values: Any) -> Callable[[dict[str, bytes]], Files]:
    return lambda files: {
        **files,
        "config.json": json.dumps({**json.loads(files["config.json"]), **values}).encode(),
    }


def one_line(use: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        use()
    assert str(caught.value).isprintable()
    return str(caught.value)


def onnx_of(*nodes: Any, weights: tuple[TensorProto, ...] = (), takes: str = "images") -> bytes:
    """A model of these nodes, from `takes` to logits."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(takes, TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def elsewhere(location: str) -> TensorProto:
    """A tensor whose values lie in another file."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


TERABYTES = (
    helper.make_node(
        "Constant", [], ["s"], value=helper.make_tensor("v", TensorProto.INT64, [2], [1 << 20] * 2)
    ),
    helper.make_node("ConstantOfShape", ["s"], ["c"]),
    helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
    helper.make_node("Add", ["images", "r"], ["logits"]),
)
PADDED = helper.make_node("Conv", ["images", "w"], ["logits"], pads=[1 << 20] * 4)
WEIGHT = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (os.urandom(1000), "it is no ONNX model"),
        (b"", "it maps"),
        (onnx_of(helper.make_node("Relu", ["x"], ["logits"]), takes="x"), "it maps x to logits"),
        (
            onnx_of(helper.make_node("Relu", ["images"], ["logits"])),
            "need outputs of shape (2, 10)",
        ),
        (onnx_of(*TERABYTES), "the operators ConstantOfShape, ReduceSum"),
        (onnx_of(PADDED, weights=(WEIGHT,)), "need a network as `export` writes it"),
        (
            onnx_of(
                helper.make_node("Add", ["images", "w"], ["logits"]),
                weights=(elsewhere("../../etc/hostname"),),
            ),
            "its weights lie in another file",
        ),
    ],
    ids=["noise", "empty", "input", "output", "terabytes", "padding", "another file"],
)
def test_a_foreign_onnx_model(exported: Bundle, model: bytes, reason: str) -> None:
    bundle = tampered(exported, lambda files: {**files, "model.onnx": model})
    assert reason in one_line(lambda: predict(bundle, IMAGES))


def test_no_operator_repeats_or_makes_much_of_little() -> None:
    assert not OPERATORS & {"Loop", "Scan", "If", "ConstantOfShape", "Expand", "Tile", "Pad"}


@pytest.mark.parametrize(
    "values",
    [
        {"classes": None},
        {"classes": []},
        {"classes": "abc"},
        {"classes": ["a", "a"]},
        {"classes": [1, 2]},
        {"classes": ["a", "b", "c"]},
        {"classes": [str(index) for index in range(20)]},
        {"classes": [f"\x1b]0;EVIL\x07{index}" for index in range(10)]},
        {"classes": [f"\u202e{index}" for index in range(10)]},
        {"image_size": None},
        {"image_size": "ab"},
        {"image_size": [0, 0]},
        {"image_size": [28]},
        {"image_size": [28.0, 28.0]},
        {"image_size": [10**6, 10**6]},
        {"image_size": [True, 28]},
        {"image_size": [14, 56]},
    ],
)
def test_absurd_classes_and_sizes(exported: Bundle, values: dict[str, Any]) -> None:
    bundle = tampered(exported, configured(**values))
    line = one_line(lambda: predict(bundle, np.zeros((1, *bundle.config.image_size), np.uint8)))
    assert line.startswith("bundle b")


def test_json_that_is_nested_deep_or_is_no_json(exported: Bundle) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    ten = b'{"a":' * 10 + b"1" + b"}" * 10
    for data in (
        deep,
        ten,
        b"[" * 5000,
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1' + b"0" * 9000 + b"}",
    ):
        bundle = tampered(exported, lambda files, data=data: {**files, "config.json": data})
        assert "config.json: need a JSON object" in one_line(lambda bundle=bundle: bundle.config)


def without_onnx(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != "model.onnx"}


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        struct.pack("<Q", 1 << 63) + b"{}",
        safetensors(b"{}"),
        safetensors(
            b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', bytes(4)
        ),
    ],
)
def test_foreign_weights(exported: Bundle, weights: bytes) -> None:
    bundle = tampered(exported, lambda files: {**without_onnx(files), "model.safetensors": weights})
    assert "bundle b: " in one_line(lambda: predict(bundle, IMAGES))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int32])
def test_weights_of_another_type(exported: Bundle, kind: torch.dtype) -> None:
    own = load(exported.read("model.safetensors"))
    other = save({name: tensor.to(kind) for name, tensor in own.items()})
    bundle = tampered(exported, lambda files: {**without_onnx(files), "model.safetensors": other})
    line = one_line(lambda: predict(bundle, IMAGES))
    assert f"got {str(kind).removeprefix('torch.')} of shape" in line


@pytest.mark.parametrize(
    "values",
    [
        {"classes": [str(index) for index in range(9)]},
        {"image_size": [14, 14]},
        {"kind": "sklearn"},
    ],
)
def test_members_of_an_ensemble_for_other_images(exported: Bundle, values: dict[str, Any]) -> None:
    def ensemble(files: dict[str, bytes]) -> Files:
        config = json.loads(files["config.json"])
        member = {"count": 1, "accuracy": 0.5}
        selection = {
            "members": {"1": member, "2": member}, "candidates": 2, "images": 10,
            "single": {"trial": 1, "accuracy": 0.5}, "accuracy": 0.5,
        }  # fmt: skip
        whole = {**config, "kind": "ensemble", "selection": selection}
        found = {**without_onnx(files), "config.json": json.dumps(whole).encode()}
        for trial, changed in ((1, {}), (2, values)):
            found[f"members/{trial}/model.safetensors"] = files["model.safetensors"]
            found[f"members/{trial}/config.json"] = json.dumps({**config, **changed}).encode()
        return found

    bundle = tampered(exported, ensemble)
    line = one_line(lambda: logits(bundle, IMAGES))
    assert "bundle b/members/2: need a network for the images and classes of the ensemble" in line


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "os"},
        {"kind": ["network"]},
        {"kind": "classical"},
        {"network": None},
        {"network": {"family": "cnn"}},
        {"network": {"family": "ann", "hidden_units": [16384] * 6, "dropout": [0.0] * 6,
                     "activation": "relu", "batch_norm": False}},
        {"training": {}},
        {"training": {"precision": None}},
        {"preprocessing": {"mean": 0.5, "deviation": 0}},
        {"preprocessing": {"mean": "0.5", "deviation": 1}},
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_the_weights(exported: Bundle, values: dict[str, Any]) -> None:
    bundle = tampered(exported, lambda files: configured(**values)(without_onnx(files)))
    one_line(lambda: predict(bundle, IMAGES))
    one_line(lambda: logits(bundle, IMAGES))


def test_what_predict_does_not_need_is_not_read(exported: Bundle) -> None:
    bundle = tampered(exported, lambda files: {**files, "provenance.json": b"{}\n"})
    assert len(predict(bundle, IMAGES)) == 2
    assert "provenance.json: need a printable text as 'study'" in one_line(
        lambda: bundle.provenance
    )


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_field_changed_to_anything_is_read_or_refused_in_one_line(
    exported: Bundle, data: st.DataObject
) -> None:
    """Each of the three records, with one field at any depth replaced or removed."""
    name = data.draw(st.sampled_from(["config.json", "metrics.json", "provenance.json"]))
    value = json.loads(exported.files[name])
    inner = value
    while True:
        key = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[key], dict) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[key]
    else:
        inner[key] = data.draw(ANY_JSON)
    bundle = tampered(exported, lambda files: {**files, name: json.dumps(value).encode()})
    try:
        read = getattr(bundle, name.removesuffix(".json"))
        if name == "metrics.json" or name == "provenance.json":
            to_json(read.to_json())
        else:
            logits(tampered(bundle, without_onnx), IMAGES[:1])
    except InputError as error:
        assert str(error).isprintable()
