"""The data frame and the interactive figures hold the study's own numbers."""

import csv
import io
import threading

import pytest

import search
from search.cli.tables import write_csv
from search.worker.worker import work


@pytest.fixture
def study(make_study):
    study = make_study(
        "toy:Improving",
        space="x = { float = [0.0, 1.0] }\nn = { int = [1, 4] }",
        trials=12,
        extra='[pruner]\nname = "median"\nn_startup_trials = 2\n[control]\ntrials = 3\n'
        "[fixed]\nc = 7",
    )
    work(study, name="w", stop=threading.Event())
    return study


def test_a_trial_of_a_new_branch_may_begin_while_the_csv_is_written(make_study, monkeypatch):
    study = make_study(trials=1)
    before = study.trials
    search.work(study)
    looks = iter([before, study.trials])
    monkeypatch.setattr(type(study), "trials", property(lambda self: next(looks)))
    text = io.StringIO()
    write_csv(study, text)
    assert len(text.getvalue().splitlines()) == 1


def test_the_frame_has_a_row_per_trial_with_the_columns_of_the_csv(study):
    frame = study.trials_frame()
    assert frame["value"].tolist() == [trial.value for trial in study.trials]
    assert frame["param_x"].tolist() == [trial.params["x"] for trial in study.trials]
    assert set(frame["param_c"]) == {7}
    assert (frame["arm"] == "control").sum() == 3
    assert set(frame["state"]) == {"complete", "pruned"}
    text = io.StringIO()
    write_csv(study, text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert list(rows[0]) == list(frame.columns)
    assert [float(row["value"]) for row in rows] == frame["value"].tolist()


def test_an_empty_study_has_a_frame_with_the_same_columns(make_study):
    frame = make_study().trials_frame()
    assert len(frame) == 0
    assert {"number", "state", "value", "arm"} <= set(frame.columns)


def test_each_figure_holds_the_trials(study):
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    history = study.plot.history()
    assert list(history.data[0].y) == [trial.value for trial in complete]
    assert history.layout.yaxis.title.text == "value"
    curves = {tuple(line.y) for line in study.plot.curves().data}
    assert curves == {tuple(trial.intermediate_values.values()) for trial in study.trials}
    assert set(study.plot.importances().data[0].y) == {"x", "n"}
    slices = {axis for trace in study.plot.slices().data for axis in trace.x}
    assert slices >= {trial.params["x"] for trial in complete}
    assert sum(len(bar.x) for bar in study.plot.timeline().data) == 12
    lines = [tuple(line.y) for line in study.plot.parallel().data if line.mode == "lines"]
    assert len(lines) == len(complete)
    assert study.plot.contour(["x", "n"]).data
