"""What is said of a measurement that was made after a study had been measured and extended."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from slices import STUDY, write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.results import places
from search.supervisor.run import annotate

SAID = "The study was amended after its test set had been measured, on"


@pytest.mark.slow
def test_it_is_said_wherever_the_later_measurement_is_shown(
    tmp_path: Path, out: Callable[..., str]
) -> None:
    write_slice(tmp_path / "data", train=400, test=100)
    study = search.create(STUDY)
    search.work(study)
    assert SAID not in out("run", "slice")  # measures
    assert "budget.trials 1 -> 2" in out("extend", "slice", "--trials", "+1")
    search.work(study)
    done = out("run", "slice")
    assert "measured once" in done
    assert SAID not in done  # the figure is of before
    annotate(study)
    notes = study.storage.optuna.get_study_system_attrs(study.ledger.study_id)
    assert any("The study was amended: amendment 1 of" in str(note) for note in notes.values())

    path = places.bundle_path(study)
    shutil.rmtree(path)
    out("export", "slice", "--trial", "1")
    assert "Its study was amended: amendment 1 of" in (path / "MODEL_CARD.md").read_text()
    assert Bundle.open(path).provenance.amendments == (str(study.amendments[0]),)
    assert "ask for it with --again" in out("evaluate", str(path), code=2)
    assert SAID in out("evaluate", str(path), "--again")
    assert SAID in (path / "MODEL_CARD.md").read_text()
    assert SAID in out("compare", "slice")
    assert SAID in out("run", "slice")
    out("report", "slice")
    page = (tmp_path / "runs" / "slice" / "report" / "report.html").read_text()
    assert SAID in page
    assert "The study was amended: amendment 1 of" in page
    study.storage.close()
