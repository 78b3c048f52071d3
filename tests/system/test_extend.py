"""A study is extended while its workers run, and one of them dies."""

import os
import signal
from collections import Counter

import pytest
from watched_command import children, query, reports, wait_for

import search

ENDED = (
    "select u.value_json from trials t join trial_user_attributes u on u.trial_id = t.trial_id "
    "where u.key = 'lineage' and t.state = 'COMPLETE'"
)


@pytest.mark.slow
def test_workers_that_run_take_the_new_budget_and_end_it_exactly(command):
    command.study(trials=4, extra="[fixed]\npause = 0.4")
    running = command.start("run", "toy.toml", "--workers", "2")
    wait_for(lambda: reports(command) >= 3)
    study = search.open("toy", storage=f"sqlite:///{command.directory}/runs/studies.db")
    study.extend(trials=5)
    study.storage.close()
    os.kill(children(running.pid)[0], signal.SIGKILL)
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out
    assert "9 of 9 trials ended" in out
    assert Counter(int(n) for (n,) in query(command, ENDED)) == Counter(range(9))
    again = command("run", "toy.toml")
    assert "is finished: 9 of 9 trials ended" in again.stdout
    assert "amended    amendment 1 of" in again.stdout
