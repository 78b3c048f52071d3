"""The readout of a bundle: temperature against SciPy's minimum, mirror image against sums."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.calibration import choose_readout, fit_temperature
from fmnist_hpo.bundle.export import draft
from fmnist_hpo.bundle.kinds import kind_of, logits, model_hash, size_of
from fmnist_hpo.bundle.predict import load_model, predict
from fmnist_hpo.bundle.records import Readout
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import measure
from fmnist_hpo.networks.bundles.network import build_model

if TYPE_CHECKING:
    from conftest import Trained


def cross_entropy(outputs: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    logs = log_softmax(outputs.astype(np.float64) / temperature, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.3, 12),
    classes=st.integers(2, 12),
    count=st.integers(60, 300),
)
def test_the_temperature_is_scipys_minimum_of_the_cross_entropy(seed, scale, classes, count):
    draw = np.random.default_rng(seed)
    outputs = (scale * draw.normal(size=(count, classes))).astype(np.float32)
    noisy = outputs / scale * 2 + draw.gumbel(size=outputs.shape)
    labels = noisy.argmax(axis=1)
    found = minimize_scalar(
        lambda log: cross_entropy(outputs, labels, np.exp(log)),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit_temperature(outputs, labels) == pytest.approx(np.exp(found.x), abs=2e-3)


@pytest.mark.parametrize("right", [True, False])
def test_there_is_no_temperature_where_no_image_or_every_image_is_wrong(right: bool) -> None:
    outputs = np.eye(4)[[0, 1, 2, 3]]
    labels = np.arange(4) if right else np.arange(1, 5) % 4
    assert fit_temperature(outputs, labels) == 1.0


@pytest.mark.slow
def test_a_bundle_is_calibrated_on_its_validation_part(
    exported: Bundle, trained: "Trained"
) -> None:
    part = trained.split.validation
    images, labels = trained.data.images[part], trained.data.labels[part]
    outputs = logits(exported, images)
    readout, validation = exported.config.readout, exported.metrics.validation
    assert readout.temperature == fit_temperature(outputs, labels) != 1.0
    assert validation.loss == pytest.approx(cross_entropy(outputs, labels, readout.temperature))
    assert validation.loss < cross_entropy(outputs, labels, 1.0)
    raw = measure(outputs, labels, trained.data.classes)
    assert validation.confusion == raw.confusion
    assert validation.raw_calibration_error == raw.calibration_error
    assert readout.evidence.raw_calibration_error == raw.calibration_error
    assert readout.evidence.calibration_error == validation.calibration_error
    card = exported.read("MODEL_CARD.md").decode()
    before, after = (100 * x for x in (raw.calibration_error, validation.calibration_error))
    assert f"| validation part | {before:.2f} % | {after:.2f} % |" in card
    assert f"divided by a temperature of {readout.temperature:g}" in card


def test_a_bundle_without_a_readout_opens_as_before(exported: Bundle, tmp_path: Path) -> None:
    config = json.loads(exported.read("config.json"))
    del config["readout"]
    metrics = json.loads(exported.read("metrics.json"))
    del metrics["validation"]["raw_calibration_error"]
    files = {"config.json": to_json(config), "metrics.json": to_json(metrics)}
    older = Bundle.write(tmp_path / "older", {**exported.files, **files})
    assert Bundle.open(older.path).config.readout == Readout()
    assert older.metrics.validation.raw_calibration_error is None
    images = np.zeros((2, 28, 28), np.uint8)
    assert np.array_equal(logits(older, images), logits(exported, images))
    assert model_hash(older) != model_hash(exported)
    assert len(predict(older, images)) == 2


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0), ("temperature", "1"), ("flip", 1), ("evidence", [])]
)
def test_an_absurd_readout_is_refused(exported: Bundle, tmp_path: Path, field, value) -> None:
    config = json.loads(exported.read("config.json"))
    config["readout"][field] = value
    absurd = Bundle.write(tmp_path / "absurd", {**exported.files, "config.json": to_json(config)})
    with pytest.raises(InputError, match=f"readout: need .* as '{field}'"):
        _ = absurd.config


def test_the_mirror_image_is_taken_if_more_images_are_right_with_it(trained: "Trained") -> None:
    model = build_model(
        trained.network, trained.training, trained.result, trained.data, trained.split
    )
    bundle = draft(Path("nowhere"), model)
    part = trained.split.validation
    images, labels = trained.data.images[part], trained.data.labels[part]
    one, other = (logits(bundle, np.ascontiguousarray(x)) for x in (images, images[:, :, ::-1]))
    right = [(x.argmax(1) == labels) for x in (one, (one + other) / 2)]
    gained, lost = (right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum()
    for flip in ("no", "auto", "yes"):
        readout, outputs, plain = choose_readout(bundle, images, labels, flip=flip)
        takes = flip == "yes" or (flip == "auto" and gained > lost)
        assert readout.flip == takes
        assert np.array_equal(outputs, (one + other) / 2 if takes else one)
        assert plain == right[0].mean()
        assert readout.evidence.accuracy == right[int(takes)].mean()
        counts = (None, None) if flip == "no" else (gained, lost)
        assert (readout.evidence.gained, readout.evidence.lost) == counts
    # the other way round: labels that only the mirror image gets right, or gets wrong
    only = np.where(right[0] == right[1], labels, (one + other).argmax(1))
    assert choose_readout(bundle, images, only, flip="auto")[0].flip
    assert not choose_readout(bundle, images, one.argmax(1), flip="auto")[0].flip


@pytest.mark.slow
def test_the_mirror_image_is_part_of_every_way_to_use_a_bundle(
    exported: Bundle, trained: "Trained", tmp_path: Path
) -> None:
    bundle = trained.export(tmp_path / "mirrored", flip="yes")
    images = trained.data.images[trained.split.validation]
    mirror = np.ascontiguousarray(images[:, :, ::-1])
    expected = (logits(exported, images) + logits(exported, mirror)) / 2
    assert np.array_equal(logits(bundle, images), expected)
    assert np.array_equal(logits(bundle, images), logits(bundle, mirror))
    # ONNX Runtime's network is that in float32; its output is divided by the temperature
    run = load_model(bundle)
    raw = load_model(exported)
    plain = exported.config.readout.temperature / bundle.config.readout.temperature
    mean = (raw(images) + raw(mirror)) / 2 * plain
    np.testing.assert_allclose(run(images), mean, atol=1e-4 * np.abs(mean).max())
    assert (
        size_of(bundle).flops
        == 2 * size_of(exported).flops
        == 2 * kind_of(bundle).size(bundle).flops
    )
    assert model_hash(bundle) != model_hash(exported)
    found = bundle.config.readout.evidence
    assert bundle.metrics.validation.accuracy == found.accuracy
    card = bundle.read("MODEL_CARD.md").decode()
    assert f"{found.gained:,} are right only with it and {found.lost:,} only without" in card
    alone = replace(trained.provenance, value=trained.provenance.value - 0.1)
    with pytest.raises(InputError, match="need the weights of trial 3"):  # judged without it
        replace(trained, provenance=alone).export(tmp_path / "other", flip="yes")
