"""Files attached to trials that have ended, as optuna-dashboard hands them out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts._protocol import ArtifactStore
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from search.dashboard import Artifacts, Pictures, application

PNG = b"\x89PNG\r\n\x1a\n not really"


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, direction="maximize")
    for x in (0.25, 0.5):
        study.add_trial(
            create_trial(value=x, params={"x": x}, distributions={"x": FloatDistribution(0, 1)})
        )
    yield study
    storage.engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> FileSystemArtifactStore:
    (tmp_path / "artifacts").mkdir()
    return FileSystemArtifactStore(tmp_path / "artifacts")


def get(study: optuna.Study, store: ArtifactStore, path: str) -> tuple[str, bytes]:
    app = application(study._storage, password=None, allow_writes=False, artifact_store=store)
    seen: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_PORT": "8080",
        "HTTP_HOST": "localhost",
    }
    chunks = app(environ, lambda status, headers, *_: seen.append(status))  # type: ignore[arg-type, func-returns-value, return-value]
    body = b"".join(chunks)
    getattr(chunks, "close", lambda: None)()
    return seen[0], body


def attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


@pytest.mark.slow
def test_what_is_attached_is_listed_and_handed_out(
    study: optuna.Study, store: FileSystemArtifactStore
) -> None:
    pictures = Pictures(study, "uid", store)
    address = pictures.attach(study.trials[1], "curves.png", PNG)
    assert get(study, store, address) == ("200 OK", PNG)
    _, body = get(study, store, f"/api/studies/{study._study_id}")
    listed = [trial["artifacts"] for trial in json.loads(body)["trials"]]
    assert listed[0] == []
    assert [(one["filename"], one["mimetype"]) for one in listed[1]] == [
        ("curves.png", "image/png")
    ]


def test_artifacts_are_found_from_another_folder(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("writer", "other"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "writer")
    address = Pictures(study, "uid", Artifacts(study._storage)).attach(
        study.trials[1], "curves.png", PNG
    )
    monkeypatch.chdir(tmp_path / "other")
    assert get(study, Artifacts(study._storage), address) == ("200 OK", PNG)
    assert list((tmp_path / "other").iterdir()) == []
    (file,) = (tmp_path / "writer" / "runs" / "artifacts").iterdir()
    file.unlink()
    assert get(study, Artifacts(study._storage), address)[0].startswith("404")


def test_attaching_again_replaces_and_writes_only_what_changed(
    study: optuna.Study, store: FileSystemArtifactStore, tmp_path: Path
) -> None:
    trial = study.trials[0]
    assert not Pictures(study, "uid", store).has(trial, "a.png")
    first = Pictures(study, "uid", store).attach(trial, "a.png", PNG)
    assert Pictures(study, "uid", store).has(trial, "a.png")
    assert not Pictures(study, "uid", store).has(study.trials[1], "a.png")
    (file,) = (tmp_path / "artifacts").iterdir()
    before, written = attributes(study), file.stat().st_mtime_ns
    assert Pictures(study, "uid", store).attach(trial, "a.png", PNG) == first
    assert (attributes(study), file.stat().st_mtime_ns) == (before, written)
    assert Pictures(study, "uid", store).attach(trial, "a.png", PNG + b"2") == first
    assert get(study, store, first) == ("200 OK", PNG + b"2")
    assert attributes(study) == before
    assert Pictures(study, "other", store).attach(trial, "a.png", PNG) != first


def test_a_picture_that_lies_elsewhere_is_not_found(
    study: optuna.Study, store: FileSystemArtifactStore, tmp_path: Path
) -> None:
    address = Pictures(study, "uid", store).attach(study.trials[0], "a.png", PNG)
    (file,) = (tmp_path / "artifacts").iterdir()
    file.unlink()
    assert get(study, store, address)[0] == "404 Not Found"
    assert not Pictures(study, "uid", store).has(study.trials[0], "a.png")
