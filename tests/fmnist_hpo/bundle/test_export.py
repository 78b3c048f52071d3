"""Bundles of a really trained network: what is in them is right, and agrees with torch."""

import dataclasses
import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.export import check_accuracy
from fmnist_hpo.bundle.kinds import logits
from fmnist_hpo.data import split as split_data
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.config import from_json
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.training import train

if TYPE_CHECKING:
    from conftest import Trained

NAMES = {
    "model.safetensors",
    "model.onnx",
    "config.json",
    "metrics.json",
    "provenance.json",
    "MODEL_CARD.md",
    "figures/curves.png",
    "figures/validation-confusion.png",
    "figures/validation-samples.png",
}


def test_the_bundle_is_complete_and_reads_back(exported: Bundle) -> None:
    assert Bundle.open(exported.path).files == exported.files
    assert exported.files.keys() == NAMES


@pytest.mark.slow
def test_exporting_again_gives_the_same_bytes(
    exported: Bundle, trained: "Trained", tmp_path: Path
) -> None:
    again = trained.export(tmp_path / "again")
    assert {name for name in NAMES if again.files[name] != exported.files[name]} == set()


def test_the_weights_are_the_trained_ones(exported: Bundle, trained: "Trained") -> None:
    stored = safetensors.torch.load(exported.read("model.safetensors"))
    assert stored.keys() == trained.result.weights.keys()
    for name, tensor in trained.result.weights.items():
        assert torch.equal(stored[name], tensor)


def test_their_validation_accuracy_is_the_trials_value_exactly(
    exported: Bundle, trained: "Trained"
) -> None:
    value = trained.result.history[-1].val_accuracy
    assert value == trained.provenance.value
    images, labels = trained.data.images, trained.data.labels
    predicted = logits(exported, images[trained.split.validation]).argmax(1)
    assert (predicted == labels[trained.split.validation]).mean() == value
    assert exported.metrics.validation.accuracy == value


def torch_logits(exported: Bundle, trained: "Trained") -> torch.Tensor:
    """An independent pass in plain float32, by what config.json says."""
    preprocessing = exported.config.fields.values["preprocessing"]
    network = build(from_json(json.dumps(exported.config.fields.values["network"])))
    network.load_state_dict(safetensors.torch.load(exported.read("model.safetensors")))
    images = torch.from_numpy(np.array(trained.data.images[trained.split.validation]))
    normalised = (images[:, None] / 255 - preprocessing["mean"]) / preprocessing["deviation"]
    with torch.inference_mode():
        logits: torch.Tensor = network.eval()(normalised)
    return logits


def test_onnx_runtime_gives_torchs_logits_for_any_batch(
    exported: Bundle, trained: "Trained"
) -> None:
    expected = torch_logits(exported, trained).numpy() / exported.config.readout.temperature
    onnx.checker.check_model(exported.read("model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(exported.read("model.onnx"))
    images = trained.data.images[trained.split.validation][:, None].astype(np.float32)
    for count in (1, 2, 77, len(images)):
        (logits,) = session.run(["logits"], {"images": images[:count]})
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4 * np.abs(expected).max())


def test_the_normalisation_is_the_training_parts(exported: Bundle, trained: "Trained") -> None:
    images = trained.data.images[trained.split.train].astype(np.float64) / 255
    preprocessing = exported.config.fields.values["preprocessing"]
    assert preprocessing["mean"] == pytest.approx(images.mean(), rel=1e-5)
    assert preprocessing["deviation"] == pytest.approx(images.std(), rel=1e-5)


def test_figures_per_class_on_the_validation_part(exported: Bundle, trained: "Trained") -> None:
    labels = trained.data.labels[trained.split.validation]
    predicted = torch_logits(exported, trained).argmax(dim=1).numpy()
    _, recall, _, support = precision_recall_fscore_support(labels, predicted)
    per_class = exported.metrics.validation.per_class
    assert tuple(one.name for one in per_class) == trained.data.classes
    assert [one.support for one in per_class] == list(support)
    # in bf16 a few of the images may fall on the other side
    assert [one.recall for one in per_class] == pytest.approx(list(recall), abs=0.03)


def test_curves_and_provenance_are_recorded(exported: Bundle, trained: "Trained") -> None:
    curves = exported.metrics.curves
    history = trained.result.history
    assert curves["train_loss"] == [epoch.train_loss for epoch in history]
    assert curves["val_accuracy"] == [epoch.val_accuracy for epoch in history]
    provenance = exported.provenance
    assert provenance.data_hashes == trained.data.hashes
    assert provenance.split_hash == trained.split.hash
    assert provenance.params == trained.provenance.params
    assert exported.config.classes == trained.data.classes
    assert exported.config.fields.values["training"]["normalization"] == "standard"


def test_the_card_says_what_is_known_and_what_is_not(exported: Bundle, trained: "Trained") -> None:
    card = exported.read("MODEL_CARD.md").decode()
    assert "# small: trial 3" in card
    assert f"{100 * trained.provenance.value:.2f} %" in card
    assert "The test set has not been measured" in card
    assert "a processor \\| with a bar" in card
    for name in trained.data.classes:
        assert name in card
    shown = [line for line in card.splitlines() if line.startswith("![")]
    assert [line.rpartition("(")[2] for line in shown] == [
        "figures/curves.png)",
        "figures/validation-confusion.png)",
        "figures/validation-samples.png)",
    ]


@pytest.mark.slow
def test_the_card_names_the_epoch_that_patience_kept(trained: "Trained", tmp_path: Path) -> None:
    patient = dataclasses.replace(trained.training, epochs=30, learning_rate=0.02, patience=1)
    result = train(trained.network, patient, trained.data, trained.split, seed=1)
    assert result.kept < len(result.history) < 30
    early = dataclasses.replace(
        trained,
        training=patient,
        result=result,
        provenance=dataclasses.replace(trained.provenance, value=result.val_accuracy),
    )
    card = early.export(tmp_path / "early").read("MODEL_CARD.md").decode()
    epochs = f"after epoch {result.kept} of {len(result.history)} (early stopping)"
    assert f"A network of the family CNN, as it was {epochs}" in card
    assert "early stopping" not in trained.export(tmp_path / "all").read("MODEL_CARD.md").decode()


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.endswith(".png")))
def test_the_figures_are_readable_pictures(exported: Bundle, name: str) -> None:
    with Image.open(exported.path / name) as picture:
        assert picture.width > 1000
        assert picture.height > 400


@pytest.mark.slow
def test_refitted_weights_have_no_validation_figures(trained: "Trained", tmp_path: Path) -> None:
    everything = split_data(trained.data, validation_fraction=0.0)
    result = train(trained.network, trained.training, trained.data, everything, seed=1)
    refitted = dataclasses.replace(
        trained,
        split=everything,
        result=result,
        provenance=dataclasses.replace(trained.provenance, refit=True),
    )
    bundle = refitted.export(tmp_path / "refitted")
    assert bundle.metrics.validation is None
    assert "val_loss" not in bundle.metrics.curves
    card = bundle.read("MODEL_CARD.md").decode()
    assert "it was trained on the validation images, too" in card


def with_weights(trained: "Trained", weights: Mapping[str, torch.Tensor]) -> "Trained":
    return dataclasses.replace(trained, result=dataclasses.replace(trained.result, weights=weights))


def told(trained: "Trained", amendment: str) -> "Trained":
    provenance = dataclasses.replace(trained.provenance, amendments=(amendment,))
    return dataclasses.replace(trained, provenance=provenance)


@pytest.mark.slow
def test_a_long_amendment_is_read_back_and_an_absurd_one_not_written(
    trained: "Trained", tmp_path: Path
) -> None:
    long, absurd = "space.x " * 200, "space.x " * 2000
    assert told(trained, long).export(tmp_path / "long").provenance.amendments == (long,)
    with pytest.raises(InputError, match="need a list of printable texts as 'amendments'"):
        told(trained, absurd).export(tmp_path / "absurd")
    assert not (tmp_path / "absurd").exists()


def test_of_few_images_some_may_move() -> None:
    check_accuracy(0.91, 3, 0.90, images=100)
    check_accuracy(0.93, 3, 0.90, images=100)
    with pytest.raises(InputError, match="need the weights of trial 3"):
        check_accuracy(0.94, 3, 0.90, images=100)
    with pytest.raises(InputError, match="need the weights of trial 3"):
        check_accuracy(0.91, 3, 0.90, images=10_000)


def test_weights_of_another_trial_are_refused(trained: "Trained", tmp_path: Path) -> None:
    wrong = dict(trained.result.weights)
    last = list(wrong)[-2]  # the classifier's matrix: its classes in reverse
    wrong[last] = wrong[last].flip(0)
    with pytest.raises(InputError, match=r"need the weights of trial 3, .*got weights with"):
        with_weights(trained, wrong).export(tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


def test_diverged_weights_are_refused(trained: "Trained", tmp_path: Path) -> None:
    wrong = {name: tensor * float("nan") for name, tensor in trained.result.weights.items()}
    wrong = {name: wrong[name].to(tensor.dtype) for name, tensor in trained.result.weights.items()}
    with pytest.raises(
        InputError, match="need a model with finite outputs, got 10000 that are not"
    ):
        with_weights(trained, wrong).export(tmp_path / "other")


def test_weights_of_another_network_are_refused(trained: "Trained", tmp_path: Path) -> None:
    network = dataclasses.replace(trained.network, channels=(8, 17))
    with pytest.raises(InputError, match="need the weights of the network in config") as caught:
        dataclasses.replace(trained, network=network).export(tmp_path / "other")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_during_export_leaves_nothing(trained: "Trained", tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            InputError, match=r"cannot write the bundle .*; what is there stays as it was"
        ):
            trained.export(tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
