"""The benchmark that runs a study beside random search: whom it compares, and with what."""

import argparse
from pathlib import Path

import pytest
import real_time
from toy import toy_spec, whole_curve

import search

pytestmark = [pytest.mark.process, pytest.mark.slow]

EXTRA = """
[sampler]
name = "freeze-thaw"
[fixed]
steps = 3
pause = 0.1
[refit]
steps = 9
[[trials]]
name = "by-hand"
params = { x = 0.123 }
"""


def test_both_begin_from_nothing_and_both_choices_are_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = Path(__file__).parent / "problems"
    monkeypatch.setenv("PYTHONPATH", str(problems))
    file = tmp_path / "toy.toml"
    file.write_text(toy_spec("toy:Pausing", trials=50, extra=EXTRA, budget="hours = 1.0"))
    storage = f"sqlite:///{tmp_path}/studies.db"
    bench = real_time.Bench(file, storage, tmp_path)
    run = bench.run(argparse.Namespace(trials=8, share=0.5, again=2, named=False), seed=5)

    control = search.open("control-5", storage=storage)
    assert control.spec.seed == 5
    assert len(control.trials) == 8
    assert run.control_best == max(trial.value for trial in control.trials if trial.value)
    found = search.open("search-5", storage=storage)
    assert found.pauses
    assert found.spec.hours == pytest.approx(0.5 * run.control_seconds / 3600)
    assert run.search_best == found.best.value
    assert (run.completed, run.begun) == (found.status().complete, found.status().begun)
    assert (run.arrived >= 0) == (run.search_best >= run.control_best)
    for study in (control, found):
        assert not [trial for trial in study.trials if trial.params["x"] == 0.123]
        assert {len(trial.intermediate_values) for trial in study.trials} <= {1, 2, 3}
    for study, values in ((control, run.control_again), (found, run.search_again)):
        x, seen = study.best.params["x"], study.best.value
        again = search.open("again-search-5", storage=storage)
        expected = [
            whole_curve(again.spec.trial_seed(trial.user_attrs["lineage"]), x, 3)[-1]
            for trial in again.trials
            if trial.params["x"] == x
        ]
        assert sorted(values) == sorted(expected)
        assert len({*values, seen}) == 3

    bench.run(argparse.Namespace(trials=8, share=0.5, again=1, named=True), seed=5)
    assert search.open("named-5", storage=storage).trials[0].user_attrs["name"] == "by-hand"
    assert len(search.open("control-5", storage=storage).trials) == 8  # it did not run again
