"""The best trial that optuna-dashboard is told, against Optuna's own."""

import json
import random
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from search.dashboard import application


@pytest.fixture
def storage(storage_url: str) -> Iterator[BaseStorage]:
    rdb = optuna.storages.RDBStorage(storage_url)
    yield optuna.storages._CachedStorage(rdb)
    rdb.engine.dispose()


def fill(study: optuna.Study, constraints: list[dict[str, float]]) -> None:
    """One trial per entry, of a repeatable random value."""
    values = random.Random(3)
    for limits in constraints:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        for name, value in limits.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                trial.set_constraint(name, value)
        study.tell(trial, values.random())


def shown(storage: BaseStorage) -> dict[str, Any]:
    """What the page receives about study 1."""
    app = application(storage, password=None, allow_writes=False)
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/api/studies/1",
        "QUERY_STRING": "",
        "SERVER_PORT": "8080",
        "HTTP_HOST": "localhost",
    }
    chunks = app(environ, lambda status, _headers: statuses.append(status))  # type: ignore[arg-type, return-value]
    assert statuses == ["200 OK"]
    detail: dict[str, Any] = json.loads(b"".join(chunks))
    return detail


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_trial_is_optunas_with_constraints(storage: BaseStorage, direction: str) -> None:
    study = optuna.create_study(storage=storage, direction=direction)
    chance = random.Random(0)
    names = ["latency", "size"]
    fill(study, [{name: chance.uniform(-1, 0.4) for name in names} for _ in range(30)])
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    pick = min if direction == "minimize" else max
    unconstrained = pick((t for t in study.trials if t.value is not None), key=lambda t: t.value)
    assert study.best_trial.number != unconstrained.number

    detail = shown(storage)
    assert [t["number"] for t in detail["best_trials"]] == [study.best_trial.number]
    told = {t["number"]: t["constraints"] for t in detail["trials"]}
    assert told == {t.number: list(t.constraints.values()) for t in study.trials}


def test_the_storage_and_its_cache_stay_as_they_were(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    fill(study, [{"latency": 1.0}, {"latency": -1.0}])
    before = [dict(trial.constraints) for trial in study.trials]
    shown(storage)
    assert [trial.constraints for trial in study.trials] == before
    stored = [storage.get_trial_system_attrs(trial._trial_id) for trial in study.trials]
    assert stored == [{"constraints:latency": 1.0}, {"constraints:latency": -1.0}]


def test_without_a_feasible_trial_none_is_best(storage: BaseStorage) -> None:
    fill(optuna.create_study(storage=storage), [{"latency": 0.5}, {"latency": 0.1}])
    detail = shown(storage)
    assert detail["best_trials"] == []
    assert len(detail["trials"]) == 2


def test_an_infeasible_trial_hides_none_of_the_front(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    for values, excess in (((1.0, 1.0), 1.0), ((0.5, 2.0), -1.0), ((0.4, 1.5), 0.0)):
        trial = study.ask()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial.set_constraint("size", excess)
        study.tell(trial, values)
    assert {t.number for t in study.best_trials} == {1, 2}
    assert [t["number"] for t in shown(storage)["best_trials"]] == [1, 2]


def test_without_constraints_the_best_is_the_best(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    assert shown(storage)["best_trials"] == []
    fill(study, [{}] * 5)
    assert [t["number"] for t in shown(storage)["best_trials"]] == [study.best_trial.number]
