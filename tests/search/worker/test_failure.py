"""Exceptions that end a trial: what is stored, what is the same error, whose fault it is."""

import asyncio
import os
import signal
import sqlite3
import threading

import optuna
import pytest
import sqlalchemy as sa
import toy
from optuna.trial import TrialState

from search.errors import StorageError, StudyHalted
from search.worker.failure import TRACEBACK_CHARACTERS
from search.worker.worker import work


def run(study):
    return work(study, name="w", stop=threading.Event())


class OfNoException(BaseException):
    """Derives from no Exception."""


class WithoutText(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit("bye"), "SystemExit: bye"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (OfNoException("x"), "OfNoException: x"),
        (WithoutText(), "WithoutText: its message cannot be shown"),
        (ValueError("\udcff\0\x1b]0;title\x07"), r"ValueError: \udcff\x00\x1b]0;title\x07"),
        (ValueError(""), "ValueError"),
        (type("Of\nlines", (Exception,), {})("x"), "Of lines: x"),
    ],
)
def test_whatever_a_problem_raises_ends_its_trial_as_an_error(
    make_study, monkeypatch, storage_url, error, stored
):
    def fail(self, trial):
        raise error

    monkeypatch.setattr(toy.Toy, "run", fail)
    study = make_study(trials=1, storage=storage_url)
    before = signal.signal(signal.SIGINT, lambda *_: None)  # as in a worker's process
    try:
        assert run(study)
    finally:
        signal.signal(signal.SIGINT, before)
    (trial,) = study.trials
    assert trial.user_attrs["reason"] == "error"
    assert trial.user_attrs["error"] == stored
    assert trial.user_attrs["error_at"].startswith(f"{type(error).__name__} at test_failure.py:")
    assert study.status().failed == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ValueError, MemoryError])
def test_a_text_of_many_megabytes_is_cut(make_study, monkeypatch, kind):
    def fail(self, trial):
        raise kind("x" * 20_000_000)

    monkeypatch.setattr(toy.Toy, "run", fail)
    study = make_study(trials=1)
    run(study)
    (trial,) = study.trials
    texts = [str(value) for value in trial.user_attrs.values()]
    assert max(map(len, texts)) < TRACEBACK_CHARACTERS + 100
    assert "characters ..." in trial.user_attrs["error"]
    if kind is ValueError:
        assert "Traceback" in trial.user_attrs["traceback"]


@pytest.mark.parametrize(
    "returned", [{"value": 0.5, "x" * 5000: 1.0}, {f"m{n}": 1.0 for n in range(2000)}]
)
def test_what_is_returned_is_bounded(make_study, monkeypatch, returned):
    monkeypatch.setattr(toy.Toy, "run", lambda self, trial: {"value": 0.5, **returned})
    study = make_study(trials=1)
    run(study)
    (trial,) = study.trials
    assert "run may return 1,000 metrics with names of 200 characters" in trial.user_attrs["error"]


def test_the_same_error_is_of_one_type_and_place_whatever_it_says(make_study, monkeypatch):
    def fail(self, trial):
        raise RuntimeError(f"x is {trial.params['x']}")

    monkeypatch.setattr(toy.Toy, "run", fail)
    study = make_study(trials=9)
    with pytest.raises(StudyHalted, match=r"failed with RuntimeError at test_failure.py:\d+;"):
        run(study)
    assert len({trial.user_attrs["error"] for trial in study.trials}) == 3
    assert len({trial.user_attrs["error_at"] for trial in study.trials}) == 1
    assert study.ledger.resume() == 3


def test_errors_at_other_places_are_others(make_study, monkeypatch):
    calls = []

    def fail(self, trial):
        calls.append(1)
        if len(calls) % 2:
            raise RuntimeError("the same text")
        raise RuntimeError("the same text")

    monkeypatch.setattr(toy.Toy, "run", fail)
    study = make_study(trials=5)
    run(study)
    assert study.status().failed == 5


class OfALibrary(toy.Toy):
    """A library that it calls raises."""

    def run(self, trial):
        optuna.distributions.FloatDistribution(1.0, 0.0)


def test_the_place_is_in_the_problems_code_though_a_library_raises(make_study):
    study = make_study(f"{__name__}:OfALibrary", trials=1)
    run(study)
    at = study.trials[0].user_attrs["error_at"]
    assert at.startswith("ValueError at test_failure.py:")


def _closed_connection() -> sa.exc.SQLAlchemyError:
    cause = sqlite3.OperationalError("unable to open database file")
    return sa.exc.OperationalError("SELECT 1", {}, cause)


@pytest.mark.slow
@pytest.mark.parametrize("caught", [False, True])  # by the problem
@pytest.mark.parametrize(
    "error",
    [
        StorageError("the database rejected the statement"),
        optuna.exceptions.StorageInternalError("away"),
        sqlite3.ProgrammingError("can't change 'autocommit' now"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_storage_is_not_the_problems(make_study, monkeypatch, error, caught):
    """The trial is released and goes on with the next worker, from its checkpoint."""
    study = make_study(trials=1)
    healthy = toy.Toy.run

    def guarded(self, trial):
        try:
            return healthy(self, trial)
        except Exception:
            if caught:
                return 0.5
            raise

    def failing(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(toy.Toy, "run", guarded)
        patched.setattr(optuna.Trial, "report", failing)
        with pytest.raises(StorageError, match="the storage failed while trial 0 ran"):
            run(study)
    (row,) = study.ledger.rows()
    assert (row.done, row.worker) == (False, None)
    run(study)
    status = study.status()
    assert (status.complete, status.failed, status.lost) == (1, 0, 0)
    assert not [trial for trial in study.trials if trial.user_attrs.get("reason") == "error"]


def test_an_error_of_the_storage_while_parameters_are_sampled_is_not_the_problems(
    make_study, monkeypatch
):
    study = make_study(trials=1)

    def failing(*args, **kwargs):
        raise _closed_connection()

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "suggest_float", failing)
        with pytest.raises(StorageError, match="the storage failed"):
            run(study)
    run(study)
    assert study.status().complete == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("report", "stored"),
    [
        (lambda trial: trial.report("two", 0.5), "TypeError"),
        (lambda trial: trial.report(2, "high"), "ValueError"),
        (lambda trial: trial.report(-1, 0.5), "ValueError"),
        (lambda trial: trial.report(2, 0.5, loss=[1]), "TypeError"),
        (lambda trial: trial.report(2, 1j), "TypeError"),
    ],
)
def test_a_report_that_makes_no_sense_is_the_problems_error(
    make_study, monkeypatch, report, stored
):
    monkeypatch.setattr(toy.Toy, "run", lambda self, trial: report(trial))
    study = make_study(trials=1)
    run(study)
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "error")
    assert trial.user_attrs["error"].startswith(stored)


def test_numbers_of_numpy_may_be_reported(make_study, monkeypatch):
    import numpy as np

    def report(self, trial):
        trial.report(np.int64(1), np.float32(0.5), loss=np.float32(0.25))
        return np.float64(0.5)

    monkeypatch.setattr(toy.Toy, "run", report)
    study = make_study(trials=1)
    run(study)
    (trial,) = study.trials
    assert trial.user_attrs["curves"] == {"step": [1], "loss": [0.25]}
    assert (trial.value, trial.intermediate_values) == (0.5, {1: 0.5})


def test_ctrl_c_of_a_user_is_not_the_problems_error(make_study, monkeypatch):
    study = make_study(trials=1)

    def interrupted(self, trial):
        os.kill(os.getpid(), signal.SIGINT)
        trial.report(1, 0.5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(toy.Toy, "run", interrupted)
            run(study)
    finally:
        signal.signal(signal.SIGINT, before)
    (row,) = study.ledger.rows()
    assert (row.done, row.worker) == (False, None)
