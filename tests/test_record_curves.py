"""The recorder of learning curves: its study, and the table that it writes."""

import csv
import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import record_curves
from optuna.trial import TrialState

from search.spec import parse_spec


@pytest.mark.parametrize("family", ["ann", "cnn"])
def test_the_study_is_always_the_same_and_repeats_each_tenth_configuration(family: str) -> None:
    text, curves = record_curves.study_file(family, 21, 12)
    assert (text, curves) == record_curves.study_file(family, 21, 12)
    spec = parse_spec(text, where="the recorder's")
    assert spec.trials == len(spec.named) == 21 + 2 * 3
    assert spec.fixed["epochs"] == 12
    names = [trial.name for trial in spec.named]
    assert names[:4] == ["0-0", "0-1", "0-2", "1-0"]
    params = {trial.name: trial.params for trial in spec.named}
    assert params["10-0"] == params["10-1"] == params["10-2"] != params["11-0"]
    # More configurations begin with the same ones, and what is recorded is left out.
    text, more = record_curves.study_file(family, 30, 12, set(curves))
    assert more[: len(curves)] == curves
    rest = parse_spec(text, where="the recorder's")
    assert [trial.name for trial in rest.named] == [f"{n}-0" for n in range(21, 30)]


def test_the_table(tmp_path: Path) -> None:
    def trial(number: int, params: dict[str, Any], state: TrialState) -> SimpleNamespace:
        attributes = {"name": "0-2", "curves": {"cpu_seconds": [2.0, 1.0]}}
        values = {1: 0.5, 2: 0.75}
        return SimpleNamespace(
            number=number, params=params, state=state, intermediate_values=values,
            user_attrs=attributes,
        )  # fmt: skip

    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    trials = [trial(2, {"b": 2, "a": True}, complete), trial(0, {"a": 1}, complete)]
    study: Any = SimpleNamespace(trials=[*trials, trial(1, {"a": 3}, pruned)])
    path = tmp_path / "curves" / "ann.csv.gz"
    found = record_curves.rows(study, 2)
    record_curves.write(path, list(found.values()), 2)
    before = path.read_bytes()
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    figures = {"accuracy_1": "0.5", "accuracy_2": "0.75", "seconds_1": "1.5", "seconds_2": "3.0"}
    assert rows == [
        {"a": "1", "b": "", "seed": "2", **figures},
        {"a": "True", "b": "2", "seed": "2", **figures},
    ]
    # Another machine goes on from it.
    assert record_curves.table_of(path, 2) == found
    assert record_curves.table_of(tmp_path / "none", 2) == {}
    with pytest.raises(ValueError, match="other than 3 epochs"):
        record_curves.table_of(path, 3)
    record_curves.write(path, list(record_curves.table_of(path, 2).values()), 2)
    assert path.read_bytes() == before
