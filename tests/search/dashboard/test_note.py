"""The note and the metric's name on a study's page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from optuna_dashboard import save_note
from optuna_dashboard._note import get_note

from search.dashboard import annotate


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield optuna.create_study(storage=storage, direction="maximize")
    storage.engine.dispose()


def stored(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def add(study: optuna.Study, value: float, params: dict[str, str | float]) -> None:
    study.add_trial(
        create_trial(
            value=value,
            params=params,
            distributions={
                name: CategoricalDistribution(["adam", "sgd"] if v in ("adam", "sgd") else [v])
                if isinstance(v, str)
                else FloatDistribution(0, 1)
                for name, v in params.items()
            },
        )
    )


def test_the_note_sums_the_study_up(study: optuna.Study) -> None:
    annotate(study, metrics=["val_accuracy"])
    assert "none yet" in get_note(study)
    assert "no trial to choose yet" in get_note(study)
    add(study, 0.875, {"learning_rate": 0.123456789, "optimizer": "adam"})
    add(study, 0.5, {"learning_rate": 0.5, "optimizer": "sgd"})
    study.tell(study.ask(), state=TrialState.PRUNED)
    study.ask()

    annotate(study, metrics=["val_accuracy"])
    note = get_note(study)
    assert "**Trials:** 1 running, 2 complete, 1 pruned" in note
    page = f"/dashboard/studies/{study._study_id}"
    assert f"**Best `val_accuracy`:** 0.875 in [trial 0]({page}/trials?numbers=0)" in note
    assert "| `learning_rate` | `0.123457` |\n| `optimizer` | `adam` |" in note
    assert study.metric_names == ["val_accuracy"]


def test_the_note_shows_fixed_parameters_too(study: optuna.Study) -> None:
    annotate(study, metrics=["accuracy"], params_of=lambda trial: {"epochs": 15})
    assert "epochs" not in get_note(study)
    add(study, 0.875, {"x": 0.25})
    annotate(study, metrics=["accuracy"], params_of=lambda trial: {"epochs": 15})
    assert "| `x` | `0.25` |\n| `epochs` | `15` |" in get_note(study)


def test_the_note_tells_an_attempt_that_was_stopped_from_a_failure(study: optuna.Study) -> None:
    for state, reason in (
        (TrialState.FAIL, "stopped"),
        (TrialState.PRUNED, "diverged"),
        (TrialState.FAIL, None),
    ):
        attrs = {} if reason is None else {"reason": reason}
        study.add_trial(create_trial(state=state, user_attrs=attrs))
    annotate(study, metrics=["val_accuracy"])
    assert "**Trials:** 1 fail, 1 diverged, 1 stopped" in get_note(study)


def test_an_unchanged_note_is_not_written_again(study: optuna.Study) -> None:
    add(study, 0.5, {"x": 0.5})
    annotate(study, metrics=["accuracy"])
    before = stored(study)
    annotate(study, metrics=["accuracy"])
    assert stored(study) == before
    assert before["dashboard:note_ver"] == 1


def test_a_note_of_somebody_else_is_kept(study: optuna.Study) -> None:
    annotate(study, metrics=["accuracy"])
    save_note(study, "Mine.")
    add(study, 0.5, {"x": 0.5})
    annotate(study, metrics=["accuracy"])
    assert get_note(study) == "Mine."


def test_a_long_note_stays_in_one_attribute(study: optuna.Study) -> None:
    add(study, 0.5, {f"{'long' * 30}_{i}": "value" * 40 for i in range(40)})
    annotate(study, metrics=["metric" * 60])
    assert len(get_note(study)) <= 2045
    assert get_note(study).count("…` | `") > 5
    parts = [key for key in stored(study) if key.startswith("dashboard:note_str:")]
    assert parts == ["dashboard:note_str:0"]


def test_names_and_values_cannot_break_the_markdown(study: optuna.Study) -> None:
    add(study, 0.5, {"a|b": "`<img src=x>`\n\n# Heading"})
    annotate(study, metrics=["*acc*|`x`"])
    note = get_note(study)
    assert "| `a b` | `'<img src=x>'  # Heading` |" in note
    assert "**Best `*acc* 'x'`:**" in note
