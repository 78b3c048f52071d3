"""A study of networks with two metrics, from its search on real images to the exported trial."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from slices import write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.results import places

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metrics = [
    { name = "val_accuracy", direction = "maximize" },
    { name = "parameters", direction = "minimize" },
]
[budget]
trials = 4
[constraints]
model_mb = { max = 0.2 }
[sampler]
name = "nsga-ii"
[data]
dir = "data"
[fixed]
family = "ann"
layers = 1
epochs = 1
[space]
hidden_units = { int = [2, 64], log = true }
learning_rate = { float = [1e-3, 1e-2], log = true }
"""


@pytest.mark.slow
def test_a_front_on_real_images_is_optunas_and_a_trial_of_it_is_exported(
    tmp_path: Path, out: Callable[..., str]
) -> None:
    write_slice(tmp_path / "data", train=400, test=100)
    study = search.create(SPEC)
    search.work(study)
    front = study.pareto
    assert {trial.number for trial in front} == {t.number for t in study.optuna.best_trials}
    smallest = front[-1]
    assert smallest.values[1] == min(trial.values[1] for trial in study.trials)
    assert 'export slice --prefer "parameters<=NUMBER"' in out("run", "slice")  # and no export
    assert places.find_bundle(study) is None
    assert "name one with --trial" in out("export", "slice", code=2)

    bound = f"parameters<={smallest.values[1]}"
    made = json.loads(out("export", "slice", "--prefer", bound, "--json"))
    assert made["trial"] == smallest.number
    assert Bundle.open(Path(made["bundle"])).provenance.value == smallest.values[0]
    assert f"its front of {len(front)}: trial {front[0].number}: val_accuracy" in (
        out("compare", "slice")
    )
    # Another trial of the front is measured: the row is of that one, not of the best.
    out("export", "slice", "--trial", str(smallest.number), "--out", "smallest")
    Path(made["bundle"]).rename("away")
    measured = json.loads(out("evaluate", "smallest", "--json"))
    (row,) = json.loads(out("compare", "slice", "--json"))["rows"]
    assert row["validation_accuracy"] == smallest.values[0]
    assert row["test_accuracy"] == measured["accuracy"]
    Path("away").rename(made["bundle"])
    out("report", "slice")
    page = (tmp_path / "runs" / "slice" / "report" / "report.html").read_text()
    assert "Front: " in page and "slice: the front" in page
    assert "Control: " not in page
    study.storage.close()
