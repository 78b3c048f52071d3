"""The ledger under real processes, real SIGKILLs and a database that goes away."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from ledger_clock import MAXIMIZE, limits
from optuna.trial import TrialState

from search.ledger import Claim, Counts, Ledger
from search.ledger.heartbeat import Heartbeat
from search.storage import Storage, open_storage

if TYPE_CHECKING:
    from conftest import Postgres

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parents[2] / "support" / "ledger_worker.py"
ROOT = Path(__file__).parents[3]


class Workers:
    """Processes of ledger_worker.py; whatever is left of them is killed in the end."""

    def __init__(self, url: str, *, step_seconds: float = 0.0) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FMNIST_HPO_STORAGE": url,
            "STEP_SECONDS": str(step_seconds),
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(WORKER), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def create(storage: Storage, lineages: int, *, heartbeat_seconds: float = 5.0) -> Ledger:
    attrs = limits(heartbeat_seconds=heartbeat_seconds, max_retries=1000)
    return Ledger.create(storage, "s", directions=MAXIMIZE, lineages=lineages, user_attrs=attrs)


@pytest.fixture
def storage(storage_url: str) -> Iterator[Storage]:
    opened = open_storage(storage_url)
    yield opened
    opened.close()


def finished(process: "subprocess.Popen[str]") -> list[str]:
    """The lines of a worker that is done; it must not have failed."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out + err
    return out.splitlines()


def check_exact(storage: Storage, ledger: Ledger, lineages: int) -> None:
    """Every lineage ended once, every lost trial has one successor, nothing is left running."""
    trials = storage.optuna.get_all_trials(ledger.study_id)
    complete = [t.user_attrs["lineage"] for t in trials if t.state is TrialState.COMPLETE]
    assert sorted(complete) == list(range(lineages))
    lost = [t.number for t in trials if t.user_attrs.get("reason") == "lost"]
    assert len(complete) + len(lost) == len(trials)
    assert sorted(t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs) == lost
    lost_attempts = len(lost)
    assert ledger.counts() == Counts(
        total=lineages,
        done=lineages,
        running=0,
        paused=0,
        free=0,
        begun=lineages,
        lost_attempts=lost_attempts,
    )
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            assert sorted(trial.intermediate_values) == [1, 2, 3]
            assert trial.intermediate_values[3] == trial.params["x"] * 3
    assert [t.number for t in trials] == list(range(len(trials)))


def test_processes_never_take_the_same_lineage(storage: Storage, storage_url: str) -> None:
    ledger = create(storage, 200)
    with Workers(storage_url) as workers:
        lines = [finished(p) for p in [workers.start(name) for name in "abc"]]
    ended = Counter(line for worker in lines for line in worker if line.startswith("ended"))
    assert len(ended) == 200
    assert set(ended.values()) == {1}
    check_exact(storage, ledger, 200)
    assert ledger.counts().lost_attempts == 0


@pytest.mark.parametrize("death", ["die-in-claim", "die-after-claim"])
def test_a_death_around_the_claim(storage: Storage, storage_url: str, death: str) -> None:
    ledger = create(storage, 2, heartbeat_seconds=0.1)
    with Workers(storage_url) as workers:
        assert workers.start("dead", death).wait(60) == -9
        trials = storage.optuna.get_all_trials(ledger.study_id)
        if death == "die-in-claim":  # row and trial are one transaction
            assert trials == []
            assert ledger.counts().running == 0
        else:
            assert [t.state for t in trials] == [TrialState.RUNNING]
        finished(workers.start("next"))
    check_exact(storage, ledger, 2)
    assert ledger.counts().lost_attempts == (0 if death == "die-in-claim" else 1)


def test_exact_under_sigkill(storage: Storage, storage_url: str) -> None:
    dice = random.Random(0)
    ledger = create(storage, 40, heartbeat_seconds=0.2)
    kills = 0
    with Workers(storage_url, step_seconds=0.03) as workers:
        alive = [workers.start(f"first-{n}") for n in range(3)]
        while kills < 8:
            time.sleep(dice.uniform(0.3, 0.9))
            victim = dice.randrange(3)
            if alive[victim].poll() is None:
                alive[victim].kill()
                kills += 1
                alive[victim] = workers.start(f"next-{kills}")
            elif ledger.counts().done == 40:
                break
        for process in alive:
            finished(process)
    check_exact(storage, ledger, 40)


def test_no_live_worker_is_lost_while_the_database_is_away(
    postgres: "Postgres", postgres_url: str
) -> None:
    storage = open_storage(postgres_url)
    ledger = create(storage, 60, heartbeat_seconds=0.3)
    with Workers(postgres_url, step_seconds=0.1) as workers:
        processes = [workers.start(name) for name in "abc"]
        for away_seconds in (0.0, 4.0, 0.5):  # a lease lasts 1.8 s
            before = ledger.counts().done
            while ledger.counts().done < before + 3:
                time.sleep(0.1)
            postgres.restart(away_seconds)
        lines = [finished(process) for process in processes]
    check_exact(storage, ledger, 60)
    assert ledger.counts().lost_attempts == 0
    for worker in lines:
        said = [line for line in worker if line.startswith("the database is")]
        assert all("away" in line for line in said[::2])
        assert all("back" in line for line in said[1::2])
        assert 2 <= len(said) <= 6, said
    storage.close()


def test_a_beat_survives_everything_but_its_lease(postgres: "Postgres", postgres_url: str) -> None:
    storage = open_storage(postgres_url)
    ledger = create(storage, 1, heartbeat_seconds=0.1)
    claim = ledger.claim("w")
    assert claim is not None
    with Heartbeat(ledger, claim.lease) as beat:
        for _ in range(2):
            postgres.restart(1.0)
            for _ in range(15):
                assert ledger.reap() == 0
                time.sleep(0.1)
        assert not beat.lost.is_set()
        ledger.release_worker("w")
        assert beat.lost.wait(20)
    storage.close()


def _one_trial(
    url: str, name: str, everybody: threading.Barrier, taken: list[Claim], errors: list[object]
) -> None:
    try:
        storage = open_storage(url)
        ledger = Ledger.open(storage, "s")
        claim = ledger.claim(name)
        assert claim is not None
        taken.append(claim)
        with Heartbeat(ledger, claim.lease):
            storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, 1, 0.5)
            everybody.wait(100)  # is connected at the same time
        assert ledger.heartbeat(claim.lease)
        ledger.end(claim, TrialState.COMPLETE, 1.0)
        storage.close()
    except BaseException as error:
        errors.append(error)


def _crowd(url: str, workers: int) -> None:
    storage = open_storage(url)
    ledger = create(storage, workers)
    everybody = threading.Barrier(workers)
    taken: list[Claim] = []
    errors: list[object] = []
    threads = [
        threading.Thread(target=_one_trial, args=(url, f"w{n}", everybody, taken, errors))
        for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(claim.lease.lineage for claim in taken) == list(range(workers))
    assert ledger.counts().done == workers
    storage.close()


def test_64_workers_on_a_default_postgres(postgres: "Postgres", postgres_url: str) -> None:
    assert postgres.execute("SHOW max_connections") == [("100",)]
    _crowd(postgres_url, 64)


def test_200_workers_behind_pgbouncer(
    postgres: "Postgres", postgres_url: str, pgbouncer: str
) -> None:
    assert postgres.execute("SHOW max_connections") == [("100",)]
    database = sa.make_url(postgres_url).database
    url = sa.make_url(pgbouncer).set(database=database)
    _crowd(url.render_as_string(hide_password=False), 200)
