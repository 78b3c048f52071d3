"""How often the test set was measured is said, whatever happens to storage and bundles."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from slices import STUDY, write_slice

import search
from fmnist_hpo import data
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.results import places
from search.study import Study
from search.worker.worker import work

pytestmark = pytest.mark.slow

TWO = STUDY.replace("trials = 1", "trials = 2")


@pytest.fixture
def study(tmp_path: Path, out: Callable[..., str]) -> Iterator[Study]:
    """Finished and not measured, in the test's folder."""
    write_slice(tmp_path / "data", train=400, test=100)
    made = search.create(STUDY)
    search.work(made)
    yield made
    made.storage.close()


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def card(path: Path) -> str:
    return (path / "MODEL_CARD.md").read_text()


def test_a_storage_that_was_restored_does_not_make_a_measurement_the_first(
    study: Study, out: Callable[..., str]
) -> None:
    database, backup = Path("runs/studies.db"), Path("backup.db")
    copy_database(database, backup)
    assert "measured once" in out("run", "slice")
    path = Path("runs/slice/bundle")
    out("evaluate", str(path), "--again")
    assert "measured 2 times" in card(path)
    copy_database(backup, database)
    said = "the test set of study 'slice' was measured 2 times, as its bundles say, and "
    assert said in out("evaluate", str(path), code=2)
    out("export", "slice", "--out", "another")  # that was never measured
    assert said in out("evaluate", "another", code=2)
    shown = out("run", "slice")
    assert "measured 2 times, as the bundle says; the storage knows nothing of it" in shown
    assert "measured 2 times" in card(path)
    assert "measurement 3 of the study's test set" in out("evaluate", str(path), "--again")
    assert "measured 3 times" in card(path)
    assert "measured 3 times" in out("run", "slice")
    assert json.loads(out("compare", "slice", "--json"))["rows"][0]["test_measurements"] == 3


def test_a_bundle_elsewhere_counts_later_measurements(
    study: Study, out: Callable[..., str]
) -> None:
    elsewhere = Path("elsewhere")
    out("export", "slice", "--out", str(elsewhere))
    assert "Shirt" not in out("evaluate", str(elsewhere))  # classes of one's own have numbers
    assert "unbiased" in card(elsewhere)
    out("export", "slice")
    path = places.bundle_path(study)
    out("evaluate", str(path), "--again")
    for one in (elsewhere, path):
        assert "measured 2 times" in card(one)
        assert "unbiased" not in card(one)
    # One that was moved is corrected when somebody asks for another measurement.
    moved = elsewhere.rename("moved")
    out("evaluate", str(path), "--again")
    assert "measured 2 times" in card(moved)
    assert "ask for it with --again" in out("evaluate", str(moved), code=2)
    assert "measured 3 times" in card(moved)


def test_a_study_that_begins_with_a_measured_one_says_so(
    study: Study, out: Callable[..., str]
) -> None:
    out("run", "slice")
    Path("next.toml").write_text(
        STUDY.replace('"slice"', '"next"').replace("seed = 0", "seed = 1")
        + '[prior]\nstudies = ["slice"]\ntrials = 1\n'
    )
    said = "It took trials over from study 'slice', whose test set had been measured once."
    assert said in out("run", "next.toml", "--workers", "1")
    path = Path("runs/next/bundle")
    assert said in card(path)
    assert "unbiased" not in card(path)
    assert Bundle.open(path).metrics.test is not None


def test_a_study_that_went_on_after_its_measurement_says_so(
    tmp_path: Path, out: Callable[..., str]
) -> None:
    write_slice(tmp_path / "data", train=400, test=100)
    study = search.create(TWO)
    first = threading.Event()
    assert not work(study, name="w", stop=first, on_trial=first.set)
    assert study.status().ended == 1
    out("export", "slice", "--trial", "0")
    path = places.bundle_path(study)
    out("evaluate", str(path))
    assert "unbiased" in card(path)
    search.work(study)
    said = "The study went on after its test set had been measured, on"
    shown = out("evaluate", str(path), "--again")
    assert said in shown
    assert "1 trial ended since" in shown
    study.storage.close()


def test_what_is_lost_with_a_study_is_said(study: Study, out: Callable[..., str]) -> None:
    out("run", "slice")
    study.storage.close()
    shown = out("delete", "slice", "--yes")
    assert ", the record of 1 measurement of its test set" in shown


def test_the_sealed_images_are_neither_classified_nor_trained_on(
    study: Study, out: Callable[..., str], fashion_dir: Path
) -> None:
    out("export", "slice")
    sealed = data.idx.present(fashion_dir, "t10k-images-idx3-ubyte")
    assert sealed is not None
    said = "the test set of Fashion-MNIST is sealed: only its one measurement reads it"
    assert said in out("predict", "runs/slice/bundle", str(sealed), code=2)

    own = Path("own")
    own.mkdir()
    for kind in ("images-idx3", "labels-idx1"):
        for stem in ("train", "t10k"):
            (own / f"{stem}-{kind}-ubyte{sealed.suffix}").symlink_to(
                sealed.with_name(sealed.name.replace("images-idx3", kind))
            )
    Path("own.toml").write_text(STUDY.replace('dir = "data"', 'dir = "own"'))
    assert said in out("run", "own.toml", "--name", "own", code=2)
