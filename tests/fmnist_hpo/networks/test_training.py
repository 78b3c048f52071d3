"""The loop against a plain one, its options against hand-made ones, and its errors."""

import dataclasses
import math
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
    FREE,
    FREE_ANN,
    PATIENT,
    RESIZED,
    WHITENED,
    StopAfter,
    assert_same,
    curve,
    interrupted,
)
from torch.nn import functional as F

from fmnist_hpo.data import Split, TrainingData, split
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.networks.loop import Loop
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.optimization import learning_rate
from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits, normalization


@pytest.mark.slow
def test_steps_change_what_is_seen_and_not_what_is_trained(
    small: tuple[TrainingData, Split],
) -> None:
    for params in (ANN, FREE):
        epochs = training.train(*parse(params), *small, seed=5)
        parts = training.train(*parse(params | {"report_every": 0.25}), *small, seed=5)
        seen = [(m.val_loss, m.val_accuracy) for m in epochs.history]
        assert [(m.val_loss, m.val_accuracy) for m in parts.history[3::4]] == seen
        for name, tensor in epochs.weights.items():
            assert torch.equal(tensor, parts.weights[name]), name
        for epoch, last in zip(epochs.history, range(4, 13, 4), strict=True):
            of_parts = [m.train_loss for m in parts.history[last - 4 : last]]
            assert sum(of_parts) / 4 == pytest.approx(epoch.train_loss, rel=1e-5)


def test_steps_that_do_not_divide_an_epoch(small: tuple[TrainingData, Split]) -> None:
    params = ANN | {"report_every": 0.2, "epochs": 2}  # 12 batches in 5 steps
    whole = training.train(*parse(params), *small, seed=5)
    assert len(whole.history) == 10
    resumed = training.train(
        *parse(params), *small, seed=5, resume=interrupted(params, small, BATCHES + 5)
    )
    assert_same(whole, resumed)
    with pytest.raises(InputError, match="at least 10 batches in an epoch, got 6"):
        training.train(*parse(params | {"report_every": 0.1, "batch_size": 128}), *small, seed=5)


def test_schedule_free_is_validated_with_the_weights_that_are_kept(
    small: tuple[TrainingData, Split],
) -> None:
    """An independent evaluation of the result gives the reported figures, and is not the loop's."""
    data, part = small
    network_config, config = parse(FREE)
    result = training.train(network_config, config, data, part, seed=5)
    network = build(network_config)
    stepping = {
        name.removeprefix("network."): tensor
        for name, tensor in safetensors.torch.load(result.checkpoint).items()
        if name.startswith("network.")
    }
    scale = normalization(config.normalization, data, part)
    preprocessing = Preprocessing.of(config, *scale)
    found = []
    for state in (result.weights, stepping):
        network.load_state_dict(state)
        network = network.to(memory_format=torch.channels_last).eval()
        logits = compute_logits(network, preprocessing, data.images[part.validation])
        held_out = torch.from_numpy(data.labels[part.validation])
        found.append(float(F.cross_entropy(torch.from_numpy(logits), held_out)))
    assert found[0] == pytest.approx(result.history[-1].val_loss, rel=1e-5)
    assert found[1] != pytest.approx(found[0], rel=1e-3)


def test_batch_norm_of_schedule_free_is_measured_without_dropout(
    small: tuple[TrainingData, Split],
) -> None:
    data, part = small
    network_config, config = parse(FREE_ANN | {"epochs": 1, "precision": "fp32"})
    result = training.train(network_config, config, data, part, seed=5)
    weight = result.weights["1.weight"].double()
    images = torch.from_numpy(data.images[part.train]).flatten(1).double().div(127.5).sub(1)
    hidden = images[:0] if not len(images) else images @ weight.T
    # All 800 images of the training part are below the limit of 2,000: one batch of 500.
    assert torch.allclose(result.weights["2.running_mean"].double(), hidden.mean(0), atol=0.05)
    ratio = result.weights["2.running_var"].double() / hidden.var(0)
    assert (ratio - 1).abs().median() < 0.1


def test_the_running_average_is_evaluated(small: tuple[TrainingData, Split]) -> None:
    """Against weights that are averaged one batch after the other; the steps are the same."""
    params = FREE_ANN | {"optimizer": "sgd", "batch_norm": False, "dropout": 0.0, "epochs": 2}
    averaged = training.train(*parse(params | {"average": 0.8}), *small, seed=5)
    plain = training.train(*parse(params), *small, seed=5)
    stepping = safetensors.torch.load(averaged.checkpoint)
    expected = [p.detach().double() for p in build_seeded(params).parameters()]
    for batches in range(1, 2 * BATCHES + 1):
        state = safetensors.torch.load(interrupted(params, small, batches))
        decay = min(0.8, batches / (9 + batches))
        for name, mean in zip(plain.weights, expected, strict=True):
            mean.lerp_(state[f"network.{name}"].double(), 1 - decay)
    for (name, tensor), mean in zip(averaged.weights.items(), expected, strict=True):
        assert torch.equal(stepping[f"network.{name}"], plain.weights[name]), name
        assert torch.allclose(tensor.double(), mean, atol=1e-6)
    assert averaged.history[-1].val_loss != plain.history[-1].val_loss


def build_seeded(params: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(5)
    return build(parse(params)[0])


def test_images_are_mirrored_in_turn(small: tuple[TrainingData, Split]) -> None:
    network, config = parse(CNN | {"flip_in_turn": True})
    loop = Loop(network, config, *small, 5, torch.device("cpu"))
    everything = torch.arange(1000)
    first = loop.mirrored(everything)
    assert first is not None
    assert 400 < int(first.sum()) < 600
    for epoch in range(4):
        loop.trained = epoch * BATCHES + 3
        mirrored = loop.mirrored(everything)
        assert mirrored is not None
        assert torch.equal(mirrored, first ^ (epoch % 2 == 1))


def test_patience_ends_a_run_and_keeps_the_best_epoch(small: tuple[TrainingData, Split]) -> None:
    epochs = list(training.epochs(*parse(PATIENT), *small, seed=5))
    result, accuracies = epochs[-1].result(), [e.metrics.val_accuracy for e in epochs]
    best = max(x for x in accuracies if x is not None)
    assert len(epochs) < 40
    assert len(epochs) == result.kept + 2
    assert result.kept == accuracies.index(best) + 1
    assert result.val_accuracy == best
    # The weights are those of a run that ends there.
    for epoch in training.epochs(*parse(PATIENT), *small, seed=5):
        if epoch.number == result.kept:
            break
    for name, tensor in epoch.result().weights.items():
        assert torch.equal(tensor, result.weights[name]), name
        assert torch.equal(tensor, training.weights(result.checkpoint)[name]), name


def test_patience_does_nothing_without_a_validation_part(
    small: tuple[TrainingData, Split],
) -> None:
    everything = split(small[0], validation_fraction=0.0)
    patient = training.train(*parse(ANN | {"patience": 1}), small[0], everything, seed=5)
    assert_same(patient, training.train(*parse(ANN), small[0], everything, seed=5))
    assert patient.kept == 3


def test_the_seed_decides_and_the_callers_generator_is_left_alone(
    small: tuple[TrainingData, Split],
) -> None:
    params = CNN | {"epochs": 1}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = training.train(*parse(params), *small, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same(first, training.train(*parse(params), *small, seed=1))
    other = training.train(*parse(params), *small, seed=2)
    assert curve(first.history) != curve(other.history)


def test_the_rate_of_a_step_is_the_schedules(small: tuple[TrainingData, Split]) -> None:
    network, config = parse(ANN | {"learning_rate": 0.03})
    loop = Loop(network, config, *small, 5, torch.device("cpu"))
    assert loop.run_step(StopAfter(7)) is None
    assert loop.optimizer.param_groups[0]["lr"] == learning_rate(config, 6, 3 * BATCHES) < 0.03


def test_small_images_fit_the_deepest_network(small: tuple[TrainingData, Split]) -> None:
    network, config = parse(RESIZED | {"blocks": 5, "channels": 4, "resize": 0.25, "epochs": 4})
    loop = Loop(network, config, *small, 5, torch.device("cpu"))
    sizes = [loop.training_size(epoch) for epoch in range(4)]
    assert sizes == [(16, 16), (16, 16), (23, 23), (28, 28)]  # 16 can be halved four times, as 28
    while not loop.finished:
        assert loop.run_step(lambda: False) is not None


def test_small_images_fit_a_whitened_network(small: tuple[TrainingData, Split]) -> None:
    params = WHITENED | {"head": "average", "blocks": 4, "channels": 4, "resize": 0.25, "epochs": 4}
    loop = Loop(*parse(params), *small, 5, torch.device("cpu"))
    sizes = [loop.training_size(epoch) for epoch in range(4)]
    assert sizes == [(17, 17), (17, 17), (23, 23), (28, 28)]  # 16 can be halved four times, as 27
    while not loop.finished:
        assert loop.run_step(lambda: False) is not None


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "schedule-free", "muon"])
def test_whitening_and_the_scale_of_batch_norm_stay(
    small: tuple[TrainingData, Split], optimizer: str
) -> None:
    average = 0.0 if optimizer == "schedule-free" else 0.9
    params = WHITENED | {"optimizer": optimizer, "average": average, "weight_decay": 0.1}
    loop = Loop(*parse(params), *small, 5, torch.device("cpu"))
    before = loop.weights()
    data, part = small
    first = data.images[part.train[:2000]].astype("float32") / 255
    mean, deviation = loop.preprocessing.mean, loop.preprocessing.deviation
    patches = torch.nn.functional.unfold(torch.from_numpy((first - mean) / deviation)[:, None], 2)
    white = torch.einsum("oi,nip->nop", before["0.weight"][:4].flatten(1), patches)
    moments = torch.einsum("nop,nqp->oq", white, white) / (len(patches) * patches.shape[2])
    torch.testing.assert_close(moments, torch.eye(4), atol=0.1, rtol=0)
    assert loop.run_step(lambda: False) is not None
    after = loop.kept_weights()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["0.bias"], before["0.bias"])
    norms = [name.removesuffix("running_mean") for name in after if name.endswith("running_mean")]
    assert norms and all((after[f"{name}weight"] == 1).all() for name in norms)


@pytest.mark.parametrize("family", ["ann", "cnn"])
def test_an_absurd_rate_diverges(small: tuple[TrainingData, Split], family: str) -> None:
    params = {"family": family, "optimizer": "sgd", "learning_rate": 1000.0}
    with pytest.raises(training.Diverged, match="loss of epoch 1 is (nan|inf)"):
        training.train(*parse(params), *small, seed=0)


def test_between_epochs_the_generator_is_the_callers(small: tuple[TrainingData, Split]) -> None:
    whole = training.train(*parse(CNN), *small, seed=1)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    drawn = []
    for last in training.epochs(*parse(CNN), *small, seed=1):  # noqa: B007
        drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)
    assert_same(whole, last.result())


def test_two_runs_in_turns_do_not_disturb_each_other(small: tuple[TrainingData, Split]) -> None:
    alone = [training.train(*parse(params), *small, seed=1) for params in (ANN, CNN)]
    runs = [training.epochs(*parse(params), *small, seed=1) for params in (ANN, CNN)]
    for one, other in zip(*runs, strict=True):
        last = one, other
    for result, epoch in zip(alone, last, strict=True):
        assert_same(result, epoch.result())


def test_nothing_to_train_on(small: tuple[TrainingData, Split]) -> None:
    one = dataclasses.replace(small[1], train=small[1].train[:1])
    with pytest.raises(InputError, match="at least 2 images"):
        training.train(*parse(ANN), small[0], one, seed=0)


def test_a_batch_larger_than_the_data(small: tuple[TrainingData, Split]) -> None:
    result = training.train(*parse(ANN | {"batch_size": 4096, "epochs": 1}), *small, seed=0)
    assert math.isfinite(result.history[0].train_loss)


@pytest.mark.slow
def test_out_of_memory_is_one_line(fashion_dir: Path) -> None:
    """In a process whose address space ends soon after torch's import."""
    code = f"""
import dataclasses, pathlib, resource, torch
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.data import load_training, split
data = load_training(pathlib.Path({str(fashion_dir)!r}))
part = split(data)
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 600 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
params = dict(family="ann", layers=3, hidden_units=16384, epochs=1, precision="fp32")
try:
    training.train(*parse(params), data, part, seed=0)
except MemoryError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") == 1, done.stdout
    assert "smaller batch_size or a smaller network" in done.stdout


@pytest.mark.slow
def test_memory_of_a_worker(fashion_dir: Path) -> None:
    """Peak above torch's import: at most 350 MB."""
    code = f"""
import dataclasses, pathlib, resource, torch
imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.data import load_training, split
data = load_training(pathlib.Path({str(fashion_dir)!r}))
part = split(data)
params = dict(family="cnn", dense_dropout=0.5, batch_size=256, normalization="standard", epochs=1)
network, config = parse(params)
part = dataclasses.replace(part, train=part.train[:256 * 20])
training.train(network, config, data, part, seed=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 350
