"""The best trials are trained again while workers and the supervisor are killed."""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import toy
from watched_command import children, query, wait_for

import search
from search.worker.worker import work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OF = "join studies s on s.study_id = t.study_id where s.study_name = '{}'"
RUNNING = f"select count(*) from trials t {OF} and t.state = 'RUNNING'"
REPORTED = (
    "select count(*) from trial_intermediate_values i join trials t on t.trial_id = i.trial_id "
    f"{OF} and t.state = 'RUNNING'"
)
ENDED = (
    "select u.value_json, v.value from trials t "
    "join trial_user_attributes u on u.trial_id = t.trial_id and u.key = 'lineage' "
    f"join trial_values v on v.trial_id = t.trial_id {OF} and t.state = 'COMPLETE' "
    "order by cast(u.value_json as integer)"
)
LOST = (
    "select count(*) from trials t join trial_user_attributes u on u.trial_id = t.trial_id "
    f"and u.key = 'reason' and u.value_json = '\"lost\"' {OF}"
)

FASHION = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = 3
[sampler]
name = "random"
[confirm]
top = 2
seeds = 3
[workers]
heartbeat_seconds = 0.5
[data]
dir = "data"
[fixed]
family = "ann"
epochs = 2
batch_size = 32
[space]
hidden_units = { int = [16, 64], log = true }
learning_rate = { float = [1e-3, 1e-2], log = true }
"""


def oracle(command, name: str, candidates: int):
    """Repeats by candidate, mean of each, straight from the tables of the database."""
    rows = query(command, ENDED.format(f"{name}-confirm"))
    assert [int(lineage) for lineage, _ in rows] == list(range(len(rows))), "each ended once"
    return np.array([value for _, value in rows]).reshape(-1, candidates).T


def test_a_worker_dies_while_the_best_trials_of_the_real_images_are_trained_again(
    sliced, monkeypatch
):
    monkeypatch.chdir(sliced.directory)
    Path("slice.toml").write_text(FASHION)
    study = search.create("slice.toml")
    work(study, name="w", stop=threading.Event())  # the search alone
    study.storage.close()
    running = sliced.start("run", "slice.toml", "--workers", "2", module="search")  # no export
    wait_for(lambda: query(sliced, REPORTED.format("slice-confirm")) not in ([], [(0,)]), 240)
    os.kill(children(running.pid)[0], signal.SIGKILL)
    out, _ = running.communicate(timeout=300)
    assert running.returncode == 0, out
    assert "6 of 6 trials ended" in out
    values = oracle(sliced, "slice", 2)
    assert values.shape == (2, 3)
    found = json.loads(sliced("best", "slice", "--json").stdout)["confirmation"]
    candidates = found["candidates"]
    assert [one["values"] for one in candidates] == values.tolist()
    searched = [value for _, value in query(sliced, ENDED.format("slice"))]
    assert len(searched) == 3
    assert [one["searched"] for one in candidates] == sorted(searched, reverse=True)[:2]
    means = values.mean(axis=1)
    won = int(means.argmax())  # of equal means the first
    assert found["winner"] == candidates[won]["trial"]
    gains = values[won] - values[1 - won]
    low, high = scipy.stats.t.interval(0.95, 2, gains.mean(), scipy.stats.sem(gains))
    assert [found["difference"][key] for key in ("mean", "low", "high")] == pytest.approx(
        [gains.mean(), low, high]
    )
    assert found["flattered"] == pytest.approx(candidates[0]["searched"] - means[0])


def test_a_killed_run_goes_on_with_the_confirmation(command):
    gate = Path(command.directory / "gate")
    command.study(
        "toy:Noisy",
        trials=4,
        extra="[confirm]\ntop = 2\nseeds = 3\n[workers]\nheartbeat_seconds = 0.5\n"
        f'[sampler]\nname = "random"\n[data]\ngate = "{gate}"\n',
    )
    name = "toy-confirm"
    running = command.start("run", "toy.toml", "--workers", "2")
    wait_for(lambda: query(command, REPORTED.format(name)) == [(2,)])  # both wait at the gate
    os.kill(children(running.pid)[0], signal.SIGKILL)
    wait_for(lambda: query(command, LOST.format(name)) == [(1,)])
    wait_for(lambda: query(command, RUNNING.format(name)) == [(2,)])
    running.kill()
    running.wait()
    assert query(command, ENDED.format(name)) == []
    gate.touch()
    done = command("run", "toy.toml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "study 'toy' is finished: 4 of 4 trials ended" in done.stdout
    assert "6 of 6 trials ended" in done.stdout
    values = oracle(command, "toy", 2)
    study = search.open(name, storage=f"sqlite:///{command.directory}/runs/studies.db")
    for trial in study.trials:
        if trial.state.name == "COMPLETE":
            lineage = trial.user_attrs["lineage"]
            seed, split = study.spec.trial_seed(lineage), lineage // 2
            uninterrupted = toy.Noisy({}).reshuffled(split).curve(seed, trial.params["x"])
            assert trial.value == values[lineage % 2, split] == uninterrupted[-1]
    study.storage.close()
    means = values.mean(axis=1)
    found = json.loads(command("status", "toy", "--json").stdout)["confirmation"]
    assert [one["mean"] for one in found["candidates"]] == pytest.approx(means)
    assert found["winner"] == found["candidates"][int(means.argmax())]["trial"]


def test_a_worker_goes_on_with_the_confirmation(command):
    path = command.study("toy:Noisy", trials=3, extra="[confirm]\ntop = 2\nseeds = 2\n")
    assert command("create", str(path)).returncode == 0
    done = command("worker", "toy")
    assert done.returncode == 0, done.stderr
    assert "joins study 'toy-confirm', 0 of 4 trials ended" in done.stdout
    assert "Confirmed: trial" in command("status", "toy").stdout
