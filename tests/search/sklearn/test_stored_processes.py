"""Searches in processes of their own: killed in the middle, and two of them on one study."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn.model_selection import RandomizedSearchCV
from sklearn_search_process import FOLDS, N_ITER, SPACE, Logged
from stored_searches import X, Y, results_of, trials_of

ROOT = Path(__file__).parents[3]


def start(url: str, log: Path, seconds: float, *more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = Path(__file__).parents[2] / "support" / "sklearn_search_process.py"
    return subprocess.Popen(
        [sys.executable, str(script), url, str(log), str(seconds), *more],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    results: dict[str, Any] = json.loads(output)
    return results


def fits_in(log: Path) -> Counter[str]:
    """Fits of folds by candidate and fold; the refits, on all samples, are left out."""
    lines = log.read_text().splitlines() if log.exists() else []
    fits = [line.split(maxsplit=1)[1] for line in lines]
    return Counter(fit for fit in fits if fit.split()[1] != str(len(X)))


def expected() -> dict[str, Any]:
    theirs = RandomizedSearchCV(Logged(), SPACE, n_iter=N_ITER, cv=FOLDS, random_state=0)
    return results_of(theirs.fit(X, Y))


@pytest.mark.slow
def test_goes_on_after_kill_9(storage_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = 0
    while killed < 3:  # in three places
        process = start(storage_url, log, 0.15)
        before = sum(fits_in(log).values())
        while sum(fits_in(log).values()) < before + 4:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
    results = finish(start(storage_url, log, 0.15))
    for key, value in expected().items():
        assert results[key] == value, key
    fits = fits_in(log)
    assert len(fits) == N_ITER * FOLDS
    # At most the fold that was being written down when its process was killed is run twice.
    assert sum(fits.values()) <= N_ITER * FOLDS + killed
    retried = [trial for trial in trials_of(storage_url) if "retry_of" in trial.user_attrs]
    assert len(trials_of(storage_url)) == N_ITER + len(retried)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_two_processes_share_one_study(storage_url: str, tmp_path: Path, n_jobs: str) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    processes = [start(storage_url, log, 0.2, n_jobs, "random", str(go)) for _ in range(2)]
    go.touch()
    first, second = (finish(process) for process in processes)
    assert first == second  # to the last digit of the times
    for key, value in expected().items():
        assert first[key] == value, key
    fits = fits_in(log)
    assert len(fits) == N_ITER * FOLDS
    assert set(fits.values()) == {1}
    assert len(trials_of(storage_url)) == N_ITER
