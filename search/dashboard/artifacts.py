"""Artifacts of trials that have ended: figures and texts on a trial's page in optuna-dashboard."""

import io
import json
import mimetypes
import uuid
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from search import attributes
from search.dashboard.private import ArtifactStore, storage_of, study_id_of, trial_id_of

__all__ = ["Artifacts", "Pictures", "missing_is_not_found"]

PLACE = Path("runs") / "artifacts"


class Artifacts:
    """The artifacts of the studies in one storage.

    They are written to `runs/artifacts` of the current folder. They are also found where commands
    in other folders of this machine wrote them, as `Pictures` records the folder with the study.

    Args:
        storage: of the studies.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self.place = PLACE.absolute()
        self._storage = storage

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """See Optuna's `ArtifactStore`."""
        return self._holder(artifact_id).open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """See Optuna's `ArtifactStore`."""
        self.place.mkdir(parents=True, exist_ok=True)
        FileSystemArtifactStore(self.place).write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """See Optuna's `ArtifactStore`."""
        self._holder(artifact_id).remove(artifact_id)

    def _holder(self, artifact_id: str) -> FileSystemArtifactStore:
        """The folder that holds an artifact; the present one when none does."""
        here = FileSystemArtifactStore(self.place)
        if _holds(here, artifact_id):
            return here
        recorded = {
            place
            for study in self._storage.get_all_studies()
            for place in study.system_attrs.get(attributes.ARTIFACTS, ())
        }
        elsewhere = [FileSystemArtifactStore(place) for place in sorted(recorded)]
        return next((store for store in elsewhere if _holds(store, artifact_id)), here)


def _holds(store: FileSystemArtifactStore, artifact_id: str) -> bool:
    try:
        store.open_reader(artifact_id).close()
    except (ArtifactNotFound, OSError):
        return False
    return True


def missing_is_not_found(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle plugin: answer 404, not 500, for an artifact whose file is on another machine."""

    @wraps(callback)
    def answer(*args: Any, **kwargs: Any) -> Any:
        from bottle import HTTPResponse

        try:
            return callback(*args, **kwargs)
        except ArtifactNotFound:
            return HTTPResponse(b"The artifact's file is not on the dashboard's machine.", 404)

    return answer


class Pictures:
    """The artifacts attached to the trials of one study.

    Optuna rejects any change of a trial that has ended, so the metadata are attributes of the
    study, in the form that optuna-dashboard reads. An artifact's id is derived from study, trial
    and name: attaching the same name again replaces it.

    Args:
        uid: of the study; the same after it was copied or renamed.
    """

    def __init__(self, study: optuna.Study, uid: str, store: ArtifactStore) -> None:
        self._storage = storage_of(study)
        self._study_id = study_id_of(study)
        self._uid = uid
        self._store = store
        self._known = self._storage.get_study_system_attrs(self._study_id)
        if isinstance(store, Artifacts):
            places = self._known.get(attributes.ARTIFACTS, [])
            if str(store.place) not in places:
                self._storage.set_study_system_attr(
                    self._study_id, attributes.ARTIFACTS, [*places, str(store.place)]
                )

    def has(self, trial: FrozenTrial, name: str) -> bool:
        """Whether there is an attachment of that name."""
        key, artifact_id = self._key(trial, name)
        return self._known.get(key) is not None and self._read(artifact_id) is not None

    def attach(self, trial: FrozenTrial, name: str, data: bytes) -> str:
        """Attach a file; an identical one is not written again.

        Args:
            name: as the page shows it; its suffix determines the media type.

        Returns:
            The path of its address in the dashboard.
        """
        key, artifact_id = self._key(trial, name)
        if self._read(artifact_id) != data:
            self._store.write(artifact_id, io.BytesIO(data))
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        metadata = json.dumps(
            {"artifact_id": artifact_id, "filename": name, "mimetype": kind, "encoding": None}
        )
        if self._known.get(key) != metadata:
            self._storage.set_study_system_attr(self._study_id, key, metadata)
            self._known[key] = metadata
        return f"/artifacts/{self._study_id}/{trial_id_of(trial)}/{artifact_id}"

    def _key(self, trial: FrozenTrial, name: str) -> tuple[str, str]:
        artifact_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._uid}/{trial.number}/{name}"))
        return f"dashboard:artifacts:{trial_id_of(trial)}:{artifact_id}", artifact_id

    def _read(self, artifact_id: str) -> bytes | None:
        try:
            with self._store.open_reader(artifact_id) as file:
                return file.read()
        except ArtifactNotFound:
            return None
