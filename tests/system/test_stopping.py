"""Commands that are interrupted, ended or cut off from their database and reader."""

import csv
import io
import os
import re
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from watched_command import children, leases, query, reports, states, wait_for

import search

pytestmark = pytest.mark.slow


def gated(command, *, trials):
    """A study whose trials wait after their first step until the returned file is there."""
    gate = command.directory / "gate"
    command.study("toy:Gated", trials=trials, extra=f'[data]\ngate = "{gate}"')
    return gate


@pytest.mark.parametrize("times", [1, 2])  # `uv run` passes on what the terminal sent to both
def test_interrupt_hands_back_and_the_same_command_goes_on(command, times):
    gate = gated(command, trials=3)
    process = command.start("run", "toy.toml", "--workers", "2")
    wait_for(lambda: reports(command) == 2)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "study 'toy' was stopped; the same command goes on" in out
    assert leases(command) == 0
    gate.touch()
    done = command("run", "toy.toml", "--workers", "2")
    assert re.search(r"3 of 3 trials ended in .*: 3 complete, 0 pruned, 0 failed", done.stdout)
    assert states(command) == {"COMPLETE": 3}  # a trial that was released went on as itself


@pytest.mark.parametrize(
    ("number", "how", "ended"),
    [
        (signal.SIGKILL, "by SIGKILL", "lost"),
        (signal.SIGTERM, "because it was asked to", "stopped"),
    ],
)
def test_a_worker_that_somebody_ends_is_replaced_and_its_trial_resumed(command, number, how, ended):
    gate = gated(command, trials=2)
    process = command.start("run", "toy.toml", "--workers", "1")
    wait_for(lambda: reports(command) == 1)
    (worker,) = children(process.pid)
    os.kill(worker, number)
    gate.touch()
    out, _ = process.communicate(timeout=60)
    assert f"ended {how}; another takes its place" in out
    assert "2 of 2 trials ended" in out
    lost = ended == "lost"
    assert states(command) == {"COMPLETE": 2, **({"FAIL": 1} if lost else {})}
    rows = list(csv.DictReader(io.StringIO(command("trials", "toy", "--csv").stdout)))
    assert [row["reason"] for row in rows].count("lost") == lost
    assert [row["retry_of"] for row in rows].count("0") == lost
    hows = [how for (how,) in query(command, "select how from search_attempt order by began")]
    assert hows == [ended, "complete", "complete"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])  # USR1: time is short
def test_a_worker_that_is_asked_to_stop_does_nothing_more_than_release(command, number):
    command.study(trials=2, extra="[fixed]\npause = 0.7")
    command("create", "toy.toml")
    command.environment["PYTHONPROFILEIMPORTTIME"] = "1"  # says what is imported
    worker = command.start("worker", "toy")
    with ThreadPoolExecutor(1) as reader:  # it writes more than a pipe holds
        read = reader.submit(worker.stdout.read)
        wait_for(lambda: reports(command) >= 1)
        worker.send_signal(number)
        out = read.result(60)
    assert worker.wait(25) == 75
    assert "trial 0 was released" in out
    assert "search.worker.worker" in out
    assert "optuna_dashboard" not in out  # takes seconds, and is for the note


def test_a_worker_leaves_in_time_while_the_database_is_away(command):
    command.study(trials=1, extra="[fixed]\npause = 0.7")
    command("create", "toy.toml")
    worker = command.start("worker", "toy")
    wait_for(lambda: reports(command) >= 1)
    with closing(sqlite3.connect(command.directory / "runs" / "studies.db")) as database:
        database.execute("begin immediate")  # nobody else can write
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=25)
    assert worker.returncode == 75
    assert "a trial that runs goes on elsewhere when its lease has run out" in out


def test_a_worker_that_waits_for_a_lock_hears_that_it_is_to_stop(command):
    command.study(trials=1)
    command("create", "toy.toml")
    url = f"sqlite:///{command.directory / 'runs' / 'studies.db'}"
    study = search.open("toy", storage=url)
    assert study.ledger.claim("other") is not None
    study.storage.close()
    worker = command.start("worker", "toy")
    with closing(sqlite3.connect(command.directory / "runs" / "studies.db")) as database:
        seen = "select seen from search_study"
        first = database.execute(seen).fetchall()
        wait_for(lambda: database.execute(seen).fetchall() != first)  # it asks for a lineage
        database.execute("begin immediate")  # nobody else can write
        time.sleep(3)  # it asks again
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=20)
    assert worker.returncode == 75
    assert "no time left" in out


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_first_ctrl_c_ends_a_run_while_the_database_is_away(command, request, engine):
    file = command.directory / "study.db"
    url = f"sqlite:///{file}" if engine == "sqlite" else request.getfixturevalue("postgres_url")
    command.study(trials=2, extra="[fixed]\npause = 0.7")
    storage = ["--storage", url]
    process = command.start("run", "toy.toml", "--workers", "1", *storage)
    wait_for(lambda: len(children(process.pid)) == 1)
    with ExitStack() as away:
        if engine == "sqlite":
            wait_for(
                lambda: "RUNNING" in command("trials", "toy", "--csv", *storage).stdout.upper()
            )
            database = away.enter_context(closing(sqlite3.connect(file)))
            database.execute("begin immediate")  # nobody else can write
        else:
            server = request.getfixturevalue("postgres")
            server.stop()
            away.callback(server.start)
        time.sleep(2)  # the supervisor looks once a second
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=25)
    assert process.returncode == 130
    assert "stopping: the workers release their trials" in out
    assert "study 'toy' was stopped; the same command goes on" in out
    assert "Traceback" not in out


@pytest.mark.parametrize("problem", ["Deaf", "Ignoring", "Frozen"])
def test_a_deaf_problem_does_not_delay_the_stop(command, problem):
    command.study(f"toy:{problem}", trials=1)
    process = command.start("run", "toy.toml")
    wait_for(lambda: states(command).get("RUNNING", 0) == 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    released = problem == "Deaf"  # the others are killed
    assert (states(command), leases(command)) == ({"RUNNING" if released else "FAIL": 1}, 0)


def test_a_run_whose_reader_goes_away_stops_as_if_asked_to(command):
    command.study(trials=100, extra="[fixed]\npause = 0.5")
    process = command.start("run", "toy.toml", "--workers", "1")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=250) == 130
    assert command("status", "toy").stdout.count("running 0") == 1
