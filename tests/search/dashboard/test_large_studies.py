"""What the page receives of a large study."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard._app
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from search.dashboard import application, large_studies
from search.dashboard.large_studies import CURVES


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[BaseStorage]:
    rdb = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield optuna.storages._CachedStorage(rdb)
    rdb.engine.dispose()


def answer(storage: BaseStorage, after: int = 0) -> dict[str, Any]:
    return ask(application(storage, password=None, allow_writes=False), after)


def ask(app: Any, after: int = 0, study: int = 1) -> dict[str, Any]:
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/api/studies/{study}",
        "QUERY_STRING": f"after={after}",
        "SERVER_PORT": "8080",
        "HTTP_HOST": "localhost",
    }
    chunks = app(environ, lambda *_: None)
    body: dict[str, Any] = json.loads(b"".join(chunks))
    return body


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


def test_the_best_curves_are_those_of_feasible_trials(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage, direction="maximize")
    for number in range(CURVES + 20):
        breaks = number % 2 == 0
        trial = create_trial(
            value=float(breaks), params={}, distributions={}, intermediate_values={1: 0.5}
        )
        trial.set_constraint("size", float(breaks))
        study.add_trial(trial)
    early = answer(storage)["trials"][: CURVES + 20 - CURVES // 2]
    kept = [trial["number"] for trial in early if trial["intermediate_values"]]
    assert kept == list(range(1, CURVES, 2))


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_large_study_shows_the_best_and_the_latest_curves(
    storage: BaseStorage, direction: str
) -> None:
    study = fill(storage, direction, CURVES + 40)
    body = answer(storage)
    assert body["has_intermediate_values"]
    assert body["plotly_graph_objects"] == []
    trials = body["trials"]
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
    assert all(trial["intermediate_values"] for trial in answer(storage)["trials"])


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 90])
def test_a_very_large_study_shows_them_in_one_figure(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(large_studies, "MANY_TRIALS", 90)
    study = fill(storage, "maximize", 89)
    assert answer(storage)["plotly_graph_objects"] == []
    infinite = create_trial(
        state=TrialState.PRUNED, value=0.5, intermediate_values={2: 0.5, 1: float("inf")}
    )
    study.add_trial(infinite)

    body = answer(storage, after)
    assert len(body["trials"]) == 90 - after
    assert not body["has_intermediate_values"]  # or the page would draw its own figure as well
    (figure,) = [json.loads(each["graph_object"]) for each in body["plotly_graph_objects"]]
    assert figure["layout"]["title"] == "Intermediate values of 20 best and 20 latest trials of 90"
    complete = [t for t in study.trials[:70] if t.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda t: -(t.value or 0.0))[:20]
    for line, trials in zip(figure["data"], (study.trials[70:], best), strict=True):
        drawn = list(zip(line["text"], line["x"], line["y"], strict=True))
        expected: list[tuple[str, int | None, float | None]] = []
        for trial in trials:
            values = trial.intermediate_values
            name = f"trial #{trial.number}"
            expected += [(name, step, values[step]) for step in (1, 2)] + [("", None, None)]
        assert drawn == [(t, x, None if y == float("inf") else y) for t, x, y in expected]


@pytest.mark.slow
def test_an_answer_is_remembered_while_the_study_is_the_same(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(storage, "maximize", 3)
    app = application(storage, password=None, allow_writes=False)
    first = ask(app)
    made: list[int] = []
    serialize = optuna_dashboard._app.serialize_study_detail

    def counted(*args: Any) -> dict[str, Any]:
        made.append(1)
        return serialize(*args)

    monkeypatch.setattr(optuna_dashboard._app, "serialize_study_detail", counted)
    assert ask(app) == first
    assert made == []
    assert ask(app, after=2)["trials"] == first["trials"][2:]
    assert made == [1]


class Interrupting(dict[str, Any]):
    """A study's attributes; while they are compared, another thread asks for another study."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def __eq__(self, other: object) -> bool:
        thread = threading.Thread(target=self.meanwhile)
        thread.start()
        thread.join()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def test_threads_that_ask_for_different_studies_get_their_own(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread compares what is remembered while the other one replaces it."""
    names = [fill(storage, direction, 3).study_name for direction in ("minimize", "maximize")]
    app = application(storage, password=None, allow_writes=False)
    plain = storage.get_study_user_attrs
    monkeypatch.setattr(storage, "get_study_user_attrs", lambda one: Interrupting(plain(one)))
    for _ in range(3):
        assert ask(app, study=1)["name"] == names[0]
        with monkeypatch.context() as patch:
            patch.setattr(Interrupting, "meanwhile", staticmethod(lambda: ask(app, study=2)))
            assert ask(app, study=1)["name"] == names[0]
    with ThreadPoolExecutor(6) as pool:  # as many as the server has
        answers = pool.map(lambda i: ask(app, study=1 + i % 2)["name"], range(30))
    assert list(answers) == names * 15


@pytest.mark.slow
def test_whatever_another_process_changes_is_in_the_next_answer(
    storage: BaseStorage, tmp_path: Path
) -> None:
    fill(storage, "maximize", 3)
    app = application(storage, password=None, allow_writes=False)
    assert len(ask(app)["trials"]) == 3
    other = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")

    def until(holds: Callable[[dict[str, Any]], bool]) -> None:
        """optuna-dashboard itself asks for new trials every two seconds."""
        deadline = time.monotonic() + 10
        while not holds(ask(app)):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    other.set_study_user_attr(1, "colour", "green")
    assert {"key": "colour", "value": "green"} in ask(app)["user_attrs"]
    trial = other.create_new_trial(1)
    until(
        lambda body: (
            [t["state"] for t in body["trials"]] == ["Pruned", *["Complete"] * 2, "Running"]
        )
    )
    for step in (1, 2):
        other.set_trial_intermediate_value(trial, step, 0.5)
        until(lambda body: len(body["trials"][3]["intermediate_values"]) == step)  # noqa: B023
    other.set_trial_state_values(trial, TrialState.COMPLETE, [2.0])
    until(lambda body: body["trials"][3]["state"] == "Complete")
    assert ask(app)["best_trials"][0]["number"] == 3
    assert ask(app) == ask(app)

    other.delete_study(1)
    assert ask(app) == {"reason": "study_id=1 is not found"}
    other.engine.dispose()
