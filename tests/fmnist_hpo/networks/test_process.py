"""The caller's settings neither change a result nor are changed; freed memory stays."""

import dataclasses
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist_hpo.data import load_training, split
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits


@contextmanager
def setting(set_to: Callable[[Any], object], value: Any, before: Any) -> Iterator[None]:
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


def precision(value: str) -> AbstractContextManager[None]:
    def set_to(one: str) -> None:
        torch.backends.fp32_precision = one  # type: ignore[attr-defined]

    return setting(set_to, value, "none")


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "device block": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True, check_nan=True),
    "medium": lambda: setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "fp32_precision": lambda: precision("bf16"),
    "no mkldnn": lambda: torch.backends.mkldnn.flags(enabled=False, allow_tf32=None),
}


def settings() -> list[object]:
    backends: Any = torch.backends
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        backends.mkldnn.enabled,
        *(one.fp32_precision for one in (backends, backends.mkldnn.matmul, backends.mkldnn.conv)),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_callers_settings(fashion_dir: Path, name: str, precision: str) -> None:
    whole = load_training(fashion_dir)
    data = dataclasses.replace(whole, images=whole.images[:100], labels=whole.labels[:100])
    params = {"channels": 4, "batch_norm": True, "dropout": 0.1, "batch_size": 40, "flip": True}
    how = parse(params | {"family": "cnn", "epochs": 2, "precision": precision, "erase": 0.5})
    seen = Preprocessing.of(how[1], 0.5, 0.5)

    def trained() -> training.TrainResult:
        first = next(training.epochs(*how, data, split(data), seed=1))
        return training.train(*how, data, split(data), seed=1, resume=first.save())

    expected = trained()
    network = build(how[0]).eval()
    network.load_state_dict(dict(expected.weights))
    logits = compute_logits(network, seen, data.images)
    with SETTINGS[name]():
        before = settings()
        found = trained()
        again = compute_logits(network, seen, data.images)
        assert settings() == before
    assert [e.val_loss for e in found.history] == [e.val_loss for e in expected.history]
    for key, tensor in expected.weights.items():
        assert torch.equal(tensor, found.weights[key]), key
    assert (logits == again).all()


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_steps_reuse_memory() -> None:
    code = """
import resource, torch
from fmnist_hpo.networks.process import keep_freed_memory
from fmnist_hpo.networks.config import CNNConfig
from fmnist_hpo.networks.models import build
network = build(CNNConfig(channels=(32, 8))).to(memory_format=torch.channels_last)
images = torch.zeros(256, 1, 28, 28)
def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        network(images).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
print(faults(5))
keep_freed_memory()
faults(3)
print(faults(5))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    returned, kept = map(int, done.stdout.split())
    assert kept < returned / 2
