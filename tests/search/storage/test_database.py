import contextlib
import multiprocessing
import os
import pickle
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from search.errors import StorageError
from search.storage import Storage, open_storage

MAXIMIZE = [StudyDirection.MAXIMIZE]


@pytest.fixture
def opened(storage_url: str) -> Iterator[Storage]:
    storage = open_storage(storage_url)
    yield storage
    storage.close()


@pytest.mark.slow
class TestOptunaContract(StorageTestCase):
    """Optuna's own contract, on the storages that we hand out."""

    @pytest.fixture
    def storage(self, opened: Storage) -> optuna.storages.BaseStorage:
        return opened.optuna


def test_sqlite_settings(sqlite_url: str) -> None:
    storage = open_storage(sqlite_url)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0) >= 10_000
    storage.close()


def test_a_damaged_file_is_noticed_although_what_is_open_goes_on(
    sqlite_url: str, tmp_path: Path
) -> None:
    storage = open_storage(sqlite_url)
    optuna.create_study(storage=storage.optuna)
    assert storage.still_there()
    file = Path(sa.make_url(sqlite_url).database or "")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    pages = file.stat().st_size // 4096
    os.truncate(file, pages // 2 * 4096)
    with pytest.raises(StorageError, match="is damaged .*; restore it"):
        storage.still_there()
    storage.close()


def test_a_connection_in_use_while_the_others_are_replaced_is_closed_after_it(
    opened: Storage,
) -> None:
    with opened.engine.connect() as connection:
        used = connection.connection.dbapi_connection
        assert used is not None
        opened.optuna.ping()  # as another thread does that lost its own connection
        connection.execute(sa.text("SELECT 1"))
    with pytest.raises(Exception, match="closed"):
        used.cursor().execute("SELECT 1")
    with opened.engine.connect() as connection:
        kept = connection.connection.dbapi_connection
    with opened.engine.connect() as connection:
        assert connection.connection.dbapi_connection is kept


def test_survives_pickling(opened: Storage) -> None:
    study_id = opened.optuna.create_new_study(MAXIMIZE, "x")
    again = pickle.loads(pickle.dumps(opened.optuna))
    assert again.get_study_id_from_name("x") == study_id
    again.rdb.engine.dispose()


def _open_and_create(url: str, start: float) -> str:
    while time.time() < start:
        time.sleep(0.001)
    storage = open_storage(url)
    try:
        storage.optuna.create_new_study(MAXIMIZE, "x")
        return "created"
    except optuna.exceptions.DuplicatedStudyError:
        return "found"
    finally:
        storage.close()


@pytest.mark.slow
def test_many_processes_create_the_schema_at_once(storage_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(6) as processes:
        processes.map(time.sleep, [0.01] * 12)  # all are up
        start = time.time() + 0.3
        answers = processes.starmap(_open_and_create, [(storage_url, start)] * 6, chunksize=1)
    assert sorted(answers) == ["created"] + ["found"] * 5


def _finish(url: str, trial_ids: list[int], state: TrialState, together: Any, won: Any) -> None:
    storage = open_storage(url)
    for trial_id in trial_ids:
        together.wait(60)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            storage.optuna.set_trial_state_values(trial_id, state, [1.0])
            won.put(trial_id)
    storage.close()


@pytest.mark.slow
def test_two_processes_cannot_both_finish_a_trial(storage_url: str) -> None:
    storage = open_storage(storage_url)
    study_id = storage.optuna.create_new_study(MAXIMIZE, "x")
    trial_ids = [storage.optuna.create_new_trial(study_id) for _ in range(30)]
    context = multiprocessing.get_context("spawn")
    together, won = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_finish, args=(storage_url, trial_ids, state, together, won))
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    for process in processes:
        process.start()
    winners = [won.get(timeout=60) for _ in trial_ids]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(winners) == trial_ids
    assert won.empty()
    storage.close()


def test_batch_is_one_transaction(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    trial = study.ask()
    commits: list[object] = []
    sa.event.listen(opened.engine, "commit", commits.append)
    with opened.optuna.batch():
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_user_attr("a", [1, 2])
        trial.report(0.5, 1)
        trial.set_user_attr("a", [1, 2, 3])
        before = len(commits)
        assert opened.optuna.rdb.get_trial(trial._trial_id).params == {}
        commits.clear()
    assert before <= 3  # reads of the sampler
    assert len(commits) == 1
    frozen = opened.optuna.rdb.get_trial(trial._trial_id)
    assert frozen.params == {"x": x}
    assert frozen.user_attrs == {"a": [1, 2, 3]}
    assert frozen.intermediate_values == {1: 0.5}


def test_batch_on_a_finished_trial_writes_nothing(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    first, second = study.ask(), study.ask()
    study.tell(second, 1.0)
    with (
        pytest.raises(optuna.exceptions.UpdateFinishedTrialError),
        opened.optuna.batch(),
    ):
        first.set_user_attr("a", 1)
        second.set_user_attr("a", 1)
    assert all(not trial.user_attrs for trial in study.trials)


def test_batch_that_raises_writes_nothing(opened: Storage) -> None:
    study = optuna.create_study(storage=opened.optuna)
    trial = study.ask()
    with pytest.raises(ZeroDivisionError), opened.optuna.batch():
        trial.set_user_attr("a", 1)
        raise ZeroDivisionError
    trial.set_user_attr("b", 2)
    assert study.trials[0].user_attrs == {"b": 2}


@pytest.mark.slow
def test_two_connections_at_most(postgres_url: str) -> None:
    storage = open_storage(postgres_url)
    study_id = storage.optuna.create_new_study(MAXIMIZE, "x")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                storage.optuna.create_new_trial(study_id)
                storage.optuna.get_all_trials(study_id)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert storage.engine.pool.checkedin() <= 2  # type: ignore[attr-defined]
    assert [t.number for t in storage.optuna.get_all_trials(study_id)] == list(range(40))
    storage.close()


def test_sqlite_reader_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    writer, reader = open_storage(sqlite_url), open_storage(sqlite_url)
    study_id = writer.optuna.create_new_study(MAXIMIZE, "x")
    seen = writer.write(lambda session: reader.optuna.get_all_trials(study_id))
    assert seen == []
    writer.close()
    reader.close()
