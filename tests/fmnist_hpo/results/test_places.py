"""Places that a user has prepared, and disks that are full when a measurement is to be written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from slices import STUDY, write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.results import measurement, places
from search.study import Study

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=300, test=100)
    study = search.create(STUDY)
    search.work(study)
    return study


def test_an_empty_folder_is_no_bundle(study: Study, out: Callable[..., str]) -> None:
    places.bundle_path(study).mkdir(parents=True)
    assert places.find_bundle(study) is None
    out("compare", "slice", "shipped", code=2)
    assert "measured once" in out("run", "slice")
    assert places.find_bundle(study) is not None


def test_a_link_is_followed(study: Study, out: Callable[..., str], tmp_path: Path) -> None:
    other, path = tmp_path / "other disk" / "bundle", places.bundle_path(study)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(other)  # nothing is there yet
    out("export", "slice")
    out("export", "slice")  # over the first one
    assert path.is_symlink()
    assert Bundle.open(other).provenance.study == "slice"
    assert sorted(one.name for one in other.parent.iterdir()) == ["bundle"]
    assert not list(path.parent.glob(".bundle*"))


def _no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_measurement_that_could_not_be_written_is_not_lost(
    study: Study, out: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out("export", "slice")
    path = places.bundle_path(study)
    with monkeypatch.context() as full:
        # The seam to the disk: a limit on this process would stop the storage, too.
        full.setattr("fmnist_hpo.bundle.bundle.write_folder", _no_room)
        measured = measurement.measure(study, Bundle.open(path), again=False)
    assert Bundle.open(path).metrics.test is None
    assert measurement.measurements(study) == 1
    again = measurement.measure(study, Bundle.open(path), again=False)
    assert again.evaluation.to_json() == measured.evaluation.to_json()
    assert (again.count, measurement.measurements(study)) == (1, 1)
    test = Bundle.open(path).metrics.test
    assert test is not None and test.metrics == measured.evaluation.metrics
    assert "ask for it with --again" in out("evaluate", str(path), code=2)
