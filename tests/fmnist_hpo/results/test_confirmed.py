"""The confirmed winner is what is exported, and bundle, card, report and note say what it was."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from slices import STUDY, write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.results import places
from search.study import open_study

SPEC = STUDY.replace("trials = 1", "trials = 3\n[confirm]\ntop = 3\nseeds = 2")


@pytest.mark.slow
def test_the_confirmed_winner_is_exported(tmp_path: Path, out: Callable[..., str]) -> None:
    write_slice(tmp_path / "data", train=400, test=100)
    study = search.create(SPEC)
    search.work(study)
    found = study.confirmation
    assert found is not None and found.winner is not None
    means = {one.trial: np.mean(one.values) for one in found.candidates}
    won = max(means, key=lambda trial: means[trial])
    assert found.winner.trial == study.best.number == won
    repeats = open_study("slice-confirm", study.storage).trials
    assert len({trial.user_attrs["fingerprint"]["split"] for trial in repeats}) == 2

    told = f"trial {won} with a mean val_accuracy of {100 * means[won]:.2f} % over 2 repeats"
    done = out("run", "slice")
    assert f"exporting trial {won} to" in done
    assert f"confirmed   {told}, each with a seed and a split of its own" in done
    path = places.bundle_path(study)
    made = Bundle.open(path).provenance
    assert made.trial == won
    assert f"Confirmed: {told}" in str(made.confirmation)
    assert f"Confirmed: {told}" in re.sub(r"\s+", " ", (path / "MODEL_CARD.md").read_text())
    notes = study.storage.optuna.get_study_system_attrs(study.ledger.study_id)
    assert any(f"Confirmed: trial {won}" in str(note) for note in notes.values())
    out("report", "slice")
    page = (tmp_path / "runs" / "slice" / "report" / "report.html").read_text()
    assert f"Confirmed: {told}" in page and "mean of the repeats" in page
    assert "not the best" not in page
    assert "holds the repeats that confirm another study" in out("export", "slice-confirm", code=2)
    compared = out("compare", "slice", "slice-confirm")
    assert "slice-confirm repeats the best trials of another study" in compared
    assert "missing: slice-confirm" not in compared
    (tmp_path / "less.toml").write_text(SPEC.replace("[confirm]\ntop = 3\nseeds = 2", ""))
    assert "trains the best" not in out("amend", "slice", "less.toml", "--yes")
    study.storage.close()
