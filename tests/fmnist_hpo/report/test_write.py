"""Reports and comparisons of a study that is not of images and whose metric is no accuracy."""

import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_trials import trial
from optuna.trial import TrialState
from toy import toy_spec

import search
from fmnist_hpo.report.models import Model
from fmnist_hpo.report.write import _accuracy_lines, _comparison, planned_steps, write_report
from fmnist_hpo.results.comparison import Comparison, Row, compare
from fmnist_hpo.results.comparison_table import lines
from search.study import Study
from search.worker.worker import work


@pytest.fixture
def loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """A finished study of a problem whose values lie between -400 and -300."""
    monkeypatch.chdir(tmp_path)
    study = search.create(
        toy_spec("toy:Improving", name="loss", space="x = { float = [-400.0, -300.0] }")
    )
    work(study, name="worker", stop=threading.Event())
    yield study
    study.storage.close()


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]*>", " ", page.read_text().split("</style>")[1])


@pytest.mark.slow
def test_a_report_of_another_problem_offers_only_what_is_possible(
    loss: Study, tmp_path: Path
) -> None:
    text = text_of(write_report([loss], tmp_path / "report"))
    best = f"{loss.best.value:.4g}"
    assert f"with value {best}." in text
    assert f"{best} value" in text  # the table of costs
    assert not re.search(r"\d\d\d\.\d+ %", text)
    assert "xport" not in text
    assert "sealed" not in text
    assert "Test accuracy" not in text


def test_a_comparison_shows_another_metric_as_it_is(loss: Study) -> None:
    found = compare([loss])
    assert found.missing == ()
    (row,) = found.rows
    assert (row.model, row.metric, row.value) == ("Improving", "value", loss.best.value)
    assert row.validation_accuracy is None
    shown = "\n".join(lines(found))
    assert f"{loss.best.value:.4g} value" in shown
    assert "%" not in shown.split("\n")[1]


def test_only_a_network_tells_how_many_steps_were_planned() -> None:
    assert planned_steps({"family": "ann", "epochs": 3}) == 3
    assert planned_steps({"family": "linear", "x": 1.0}) is None  # a parameter of another problem
    assert planned_steps({"x": 1.0}) is None


def test_a_comparison_with_an_infinite_value_is_json(loss: Study) -> None:
    found = compare([loss])
    (row,) = found.rows
    text = replace(found, rows=(replace(row, value=math.inf),)).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["rows"][0]["value"] is None


def test_a_validation_accuracy_with_mirror_images_says_so() -> None:
    def model(study: str, *, accuracy: float, mirrored: bool) -> Model:
        row = Row(
            study=study, model="cnn", validation_accuracy=accuracy, value=accuracy,
            mirrored=mirrored, search_seconds=1.0,
        )  # fmt: skip
        return Model(
            study=study, metric="val_accuracy", trial=trial(0, TrialState.COMPLETE, [0.9405]),
            validation_images=10_000, bundle=None, row=row, measured=None, predictions=None,
            evaluations=0, of_images=False,
        )  # fmt: skip

    models = [
        model("flipped", accuracy=0.9417, mirrored=True),
        model("plain", accuracy=0.9405, mirrored=False),
    ]
    rows = tuple(one.row for one in models)
    comparison = Comparison(rows=rows, pairs=(), missing=(), threads=1)
    table, *rest = _comparison(models, comparison)
    assert [row[2] for row in table.rows] == ["94.17 % with mirror images", "94.05 %"]
    assert any("A validation accuracy with mirror images is of logits" in each.text
               for each in rest)  # fmt: skip
    assert "Validation accuracy with mirror images: 94.17 %." in _accuracy_lines(models[0])
    assert not any("mirror" in line for line in _accuracy_lines(models[1]))
    text = "\n".join(lines(comparison))
    assert "94.17 %, mirrored" in text
    assert "mirrored: of logits averaged over each image and its mirror image" in text
    assert "mirror" not in "\n".join(lines(replace(comparison, rows=rows[1:])))
