"""Reports and comparisons of a study that is not of images and whose metric is no accuracy."""

import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from toy import toy_spec

import search
from fmnist_hpo.report.write import planned_steps, write_report
from fmnist_hpo.results.comparison import compare
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
