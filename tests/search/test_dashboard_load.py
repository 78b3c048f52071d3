"""What the page receives of a large study."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from search.dashboard import application
from search.dashboard.load import CURVES


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[BaseStorage]:
    rdb = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield optuna.storages._CachedStorage(rdb)
    rdb.engine.dispose()


def shown(storage: BaseStorage) -> list[dict[str, Any]]:
    app = application(storage, password=None, allow_writes=False)
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/api/studies/1",
        "QUERY_STRING": "",
        "SERVER_PORT": "8080",
        "HTTP_HOST": "localhost",
    }
    chunks = app(environ, lambda *_: None)  # type: ignore[arg-type, return-value]
    trials: list[dict[str, Any]] = json.loads(b"".join(chunks))["trials"]
    return trials


def fill(storage: BaseStorage, direction: str, number: int) -> optuna.Study:
    study = optuna.create_study(storage=storage, direction=direction)
    chance = random.Random(0)
    for i in range(number):
        value = chance.random()
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if i % 3 == 0 else TrialState.COMPLETE,
                value=value,
                params={"x": value},
                distributions={"x": FloatDistribution(0, 1)},
                intermediate_values={1: value / 2, 2: value},
                user_attrs={"worker": "w", "curves": {"loss": [value] * 50}},
            )
        )
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_large_study_shows_the_best_and_the_latest_curves(
    storage: BaseStorage, direction: str
) -> None:
    study = fill(storage, direction, CURVES + 40)
    trials = shown(storage)
    assert len(trials) == CURVES + 40
    with_curve = {trial["number"] for trial in trials if trial["intermediate_values"]}
    assert len(with_curve) == CURVES
    assert set(range(CURVES + 40 - CURVES // 2, CURVES + 40)) <= with_curve
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda t: t.value or 0.0, reverse=direction == "maximize")
    assert {trial.number for trial in ranked[:20]} <= with_curve
    assert all(trial.intermediate_values for trial in study.trials)
    for trial in trials:
        known = {attribute["key"] for attribute in trial["user_attrs"]}
        assert known == {"worker"} | ({"curves"} if trial["number"] in with_curve else set())


def test_a_small_study_shows_every_curve(storage: BaseStorage) -> None:
    fill(storage, "maximize", CURVES)
    assert all(trial["intermediate_values"] for trial in shown(storage))
