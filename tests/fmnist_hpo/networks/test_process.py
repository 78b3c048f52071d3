"""Freed memory stays with the process: a training step hardly faults pages in."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_steps_reuse_memory() -> None:
    code = """
import resource, torch
from fmnist_hpo.networks.process import keep_freed_memory
from fmnist_hpo.networks.config import CNNConfig
from fmnist_hpo.networks.models import build
torch.set_num_threads(1)
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
