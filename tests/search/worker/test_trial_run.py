"""What a problem's report does beside storing a value."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import pytest

from search.storage.checkpoint import CheckpointStore
from search.worker.trial_run import TrialRun


def test_the_storages_time_and_a_repeated_step_belong_to_no_step(tmp_path: Any) -> None:
    """A step takes two seconds, and the storage ten."""
    now = 100.0

    @contextmanager
    def slow() -> Iterator[None]:
        nonlocal now
        yield
        now += 10.0

    trial = optuna.create_study().ask()
    run = TrialRun(
        trial, params={}, seed=0, lineage=0, attempt=1,
        checkpoints=CheckpointStore(tmp_path, "uid"), stop=threading.Event(),
        lost=threading.Event(), held=threading.Event(), timeout_seconds=None, last_value=None,
        batch=slow, prunable=False, audited=False, timed=True, clock=lambda: now,
    )  # fmt: skip
    for step in (1, 2, 1, 2, 3):  # the first two are repeated, as their checkpoint was lost
        now += 2.0
        run.report(step, 0.5)
    assert trial.user_attrs["step_seconds"] == pytest.approx([2.0, 2.0, 2.0])
