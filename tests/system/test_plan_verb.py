"""`fmnist-hpo plan` as a user types it."""

import json
import re

import pytest
from slices import write_slice

pytestmark = pytest.mark.slow

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = 3
[data]
dir = "data"
[fixed]
family = "cnn"
epochs = 2
batch_size = 64
channels = 4
[space]
blocks = { int = [1, 5] }
"""


def test_a_plan_foresees_a_study_and_writes_nothing(command):
    write_slice(command.directory / "data")
    for test_file in (command.directory / "data").glob("t10k*"):
        test_file.unlink()  # it needs none of them
    (command.directory / "slice.toml").write_text(SPEC)
    before = sorted(command.directory.rglob("*"))
    done = command("plan", "slice.toml", "--workers", "2", "--json")
    assert done.returncode == 0
    assert re.fullmatch(r"measuring what a trial takes, for \d configurations\n", done.stderr)
    plan = json.loads(done.stdout)
    assert plan["space"] == {"points": 5, "branches": 1, "values": {"blocks": 5}}
    assert [one["remark"][:12] for one in plan["remarks"]] == ["block 5 of 5"]
    forecast = plan["forecast"]
    assert 0 < forecast["trial_seconds"]["low"] <= forecast["trial_seconds"]["high"]
    assert forecast["study_seconds"]["middle"] > forecast["worker_start_seconds"]
    # The most work and the least: what one block flattens is wide, what four leave is 1x1.
    assert {one["params"]["blocks"] for one in forecast["probes"]} >= {1, 4}
    assert 100e6 < forecast["worker_bytes"] < plan["memory_bytes"]
    assert sorted(command.directory.rglob("*")) == before


def test_mistakes_are_one_line(command):
    assert "did you mean 'quick'" in command.error("plan", "quikc")
    assert "cannot read the study file none.toml" in command.error("plan", "none.toml")
    (command.directory / "slice.toml").write_text(SPEC.replace("int", "itn"))
    assert "space.blocks needs exactly one of int, float, choice" in command.error(
        "plan", "slice.toml"
    )
    (command.directory / "slice.toml").write_text(SPEC)
    assert "data" in command.error("plan", "slice.toml")
