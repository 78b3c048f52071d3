"""Studies of the toy problems, and one of plain Optuna."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from toy import toy_spec

import search
from search.study import Study

MakeStudy = Callable[..., Study]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study writes into the current folder by default stays with its test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_study(tmp_path: Path, sqlite_url: str) -> Iterator[MakeStudy]:
    """Creates a study in a fresh SQLite file, from the arguments of `toy_spec`."""
    opened: list[Study] = []

    def make(*args: object, storage: str = sqlite_url, **options: object) -> Study:
        study = search.create(
            toy_spec(*args, **options),  # type: ignore[arg-type]
            storage=storage,
            checkpoints=str(tmp_path / "checkpoints"),
        )
        opened.append(study)
        return study

    yield make
    for study in opened:
        study.storage.close()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[BaseStorage]:
    """Plain Optuna's, with one small study for the dashboard to show."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="secret-study")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    yield storage
    storage.engine.dispose()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where clocks are put back at 3:00 on 2026-10-25, and put forward at 2:00 on 2026-03-29."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()
