"""A run that was interrupted anywhere goes on to the same weights and curve, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_trainings import (
    ANN,
    BATCHES,
    CNN,
    CNN_ADAM,
    DEEP,
    FREE,
    FREE_ANN,
    MUON,
    PATIENT,
    RESIZED,
    WHITENED,
    assert_same,
    curve,
    interrupted,
)

from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [ANN, CNN, CNN_ADAM, FREE_ANN, FREE, DEEP, ANN | MUON, CNN | MUON, RESIZED, WHITENED],
    ids=[
        *("ann", "cnn-sgd", "cnn-adamw", "ann-schedule-free", "cnn-schedule-free", "cnn-deep"),
        *("ann-muon", "cnn-muon", "cnn-resized", "cnn-whitened"),
    ],
)
@pytest.mark.parametrize("batches", [1, BATCHES, BATCHES + 5, 3 * BATCHES])
def test_resumed_after_any_batch(
    params: dict[str, Any], small: tuple[TrainingData, Split], batches: int
) -> None:
    whole = training.train(*parse(params), *small, seed=5)
    checkpoint = interrupted(params, small, batches)
    assert curve(training.history(checkpoint)) == curve(whole.history)[: (batches - 1) // BATCHES]
    resumed = list(training.epochs(*parse(params), *small, seed=5, resume=checkpoint))
    assert_same(whole, resumed[-1].result())
    assert [epoch.number for epoch in resumed] == [1, 2, 3]
    assert sum(epoch.resumed for epoch in resumed) == (batches - 1) // BATCHES


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
@pytest.mark.parametrize("frozen", [{"whitening": True}, {"batch_norm_scale": False}], ids=str)
def test_parameters_that_do_not_learn_shift_no_moments(
    frozen: dict[str, Any], optimizer: str, small: tuple[TrainingData, Split]
) -> None:
    params = CNN | frozen | {"optimizer": optimizer, "convolutions": 2, "batch_norm": True}
    whole = training.train(*parse(params), *small, seed=5)
    checkpoint = interrupted(params, small, BATCHES + 5)
    assert_same(whole, training.train(*parse(params), *small, seed=5, resume=checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize("params", [ANN, FREE], ids=["ann", "cnn-schedule-free"])
@pytest.mark.parametrize("batches", [1, 3, 4, BATCHES, BATCHES + 2, 3 * BATCHES])
def test_steps_of_a_quarter_epoch_resume_after_any_batch(
    params: dict[str, Any], small: tuple[TrainingData, Split], batches: int
) -> None:
    params = params | {"report_every": 0.25}
    whole = training.train(*parse(params), *small, seed=5)
    assert len(whole.history) == 12
    checkpoint = interrupted(params, small, batches)
    assert len(training.history(checkpoint)) == (batches - 1) // 3
    assert_same(whole, training.train(*parse(params), *small, seed=5, resume=checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, BATCHES, BATCHES + 5, 3 * BATCHES])
def test_patience_resumes_after_any_batch(small: tuple[TrainingData, Split], batches: int) -> None:
    whole = training.train(*parse(PATIENT), *small, seed=5)
    resume = interrupted(PATIENT, small, batches)
    resumed = training.train(*parse(PATIENT), *small, seed=5, resume=resume)
    assert_same(whole, resumed)
    assert whole.kept == resumed.kept
    again = training.train(*parse(PATIENT), *small, seed=5, resume=resumed.checkpoint)
    assert_same(whole, again)  # a run whose patience has run out is over


def test_a_checkpoint_of_a_version_with_fewer_parameters_resumes(
    small: tuple[TrainingData, Split],
) -> None:
    checkpoint = interrupted(ANN, small, BATCHES + 5)
    tensors = safetensors.torch.load(checkpoint)
    length = int.from_bytes(checkpoint[:8], "little")
    state = json.loads(json.loads(checkpoint[8 : 8 + length])["__metadata__"]["state"])
    network, how, *others = json.loads(state["key"])
    del how["patience"], state["best"]
    state["key"] = json.dumps([network, how, *others])
    older = safetensors.torch.save(tensors, {"state": json.dumps(state)})
    whole = training.train(*parse(ANN), *small, seed=5)
    assert_same(whole, training.train(*parse(ANN), *small, seed=5, resume=older))
    with pytest.raises(InputError, match="its own run only"):
        training.train(*parse(ANN | {"patience": 3}), *small, seed=5, resume=older)


@pytest.mark.slow
def test_resumed_in_another_process(
    small: tuple[TrainingData, Split], fashion_dir: Path, tmp_path: Path
) -> None:
    whole = training.train(*parse(CNN_ADAM), *small, seed=5)
    (tmp_path / "in").write_bytes(interrupted(CNN_ADAM, small, BATCHES + 5))
    code = f"""
import dataclasses, pathlib, torch
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.data import load_training, split
data = load_training(pathlib.Path({str(fashion_dir)!r}))
data = dataclasses.replace(data, images=data.images[:1000], labels=data.labels[:1000])
resume = pathlib.Path("in").read_bytes()
result = training.train(*parse({CNN_ADAM!r}), data, split(data), seed=5, resume=resume)
pathlib.Path("out").write_bytes(result.checkpoint)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    out = (tmp_path / "out").read_bytes()
    assert curve(training.history(out)) == curve(whole.history)
    for name, tensor in training.weights(out).items():
        assert torch.equal(tensor, whole.weights[name]), name


def test_checkpoints_of_epochs_resume_and_are_no_pickle(small: tuple[TrainingData, Split]) -> None:
    checkpoints: list[bytes] = []
    for last in training.epochs(*parse(ANN), *small, seed=5):
        checkpoints.append(last.save())
    whole = last.result()
    for epoch, checkpoint in enumerate(checkpoints, start=1):
        assert curve(training.history(checkpoint)) == curve(whole.history)[:epoch]
        assert_same(whole, training.train(*parse(ANN), *small, seed=5, resume=checkpoint))
        assert safetensors.torch.load(checkpoint)  # reads nothing else
    assert all(
        torch.equal(tensor, whole.weights[name])
        for name, tensor in training.weights(checkpoints[-1]).items()
    )


@pytest.mark.parametrize(
    "change", [{"hidden_units": 33}, {"learning_rate": 0.01}, {"epochs": 4}, {"seed": 6}]
)
def test_a_checkpoint_of_another_run(
    small: tuple[TrainingData, Split], change: dict[str, Any]
) -> None:
    checkpoint = interrupted(ANN, small, 1)
    seed = change.pop("seed", 5)
    with pytest.raises(InputError, match="its own run only"):
        training.train(*parse(ANN | change), *small, seed=seed, resume=checkpoint)
