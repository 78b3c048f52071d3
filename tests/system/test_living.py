"""At one run a study is given a trial, paused, amended, resumed, and trials of it are stopped."""

from collections import Counter

import pytest
from toy import toy_spec
from watched_command import leases, reports, wait_for

import search
from search import attributes


@pytest.mark.slow
def test_workers_that_run_follow_whatever_is_done_by_hand(command):
    gate = command.directory / "gate"  # each trial waits for it after its first step
    extra = f'[data]\ngate = "{gate}"\n[workers]\nheartbeat_seconds = 0.5'
    command.study("toy:Gated", trials=4, extra=extra)
    running = command.start("run", "toy.toml", "--workers", "2")
    wait_for(lambda: reports(command) == 2)
    study = search.open("toy", storage=f"sqlite:///{command.directory}/runs/studies.db")
    study.stop(0)
    wait_for(lambda: reports(command) == 3)  # its worker has gone on to lineage 2
    study.add({"x": 0.125})
    study.stop(1)
    wait_for(lambda: reports(command) == 4)  # the added one is next, before lineage 3
    assert study.trials[3].user_attrs[attributes.LINEAGE] == 4
    assert command("pause", "toy").returncode == 0
    wait_for(lambda: leases(command) == 0)
    wider = toy_spec("toy:Gated", trials=6, space="x = { float = [5.0, 6.0] }", extra=extra)
    (command.directory / "wider.toml").write_text(wider)
    assert "it is amendment 2" in command("amend", "toy", "wider.toml", "--yes").stdout
    assert study.status().state == "paused"
    assert running.poll() is None
    gate.touch()
    assert command("resume", "toy").returncode == 0
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out
    assert "7 of 7 trials ended" in out
    trials = study.trials
    assert Counter(t.user_attrs[attributes.LINEAGE] for t in trials) == Counter(range(7))
    reasons = [t.user_attrs.get(attributes.REASON) for t in trials]
    assert reasons == ["stopped-by-hand"] * 2 + [None] * 5
    amendments = {t.user_attrs[attributes.LINEAGE]: t.user_attrs.get(attributes.AMENDMENT)
                  for t in trials}  # fmt: skip
    assert amendments == {0: None, 1: None, 2: None, 4: 1, 3: 2, 5: 2, 6: 2}
    assert trials[3].params["x"] == 0.125
    assert all((t.params["x"] >= 5) == (t.number > 3) for t in trials)
    assert [len(t.intermediate_values) for t in trials] == [1, 1, 4, 4, 4, 4, 4]
    study.storage.close()
