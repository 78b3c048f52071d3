"""Pictures and texts that optuna-dashboard shows on the page of a trial that has ended."""

import io
import json
import mimetypes
import uuid
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

__all__ = ["Pictures", "missing_is_not_found", "open_pictures"]

PLACE = Path("runs") / "artifacts"


def open_pictures(*, make: bool) -> "ArtifactStore":
    """The folder of all studies' artifacts.

    Args:
        make: it when it is missing, as one must who writes.
    """
    if make:
        PLACE.mkdir(parents=True, exist_ok=True)
    return optuna.artifacts.FileSystemArtifactStore(PLACE)


def missing_is_not_found(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle plugin: an artifact whose file lies on another machine is no error of the server."""

    @wraps(callback)
    def answer(*args: Any, **kwargs: Any) -> Any:
        from bottle import HTTPResponse

        try:
            return callback(*args, **kwargs)
        except ArtifactNotFound:
            return HTTPResponse(b"Its file is not on the dashboard's machine.", 404)

    return answer


class Pictures:
    """What is attached to the trials of one study.

    Optuna refuses any change of a trial that has ended, so the metadata stand with the study, in
    the form that optuna-dashboard reads. Each attachment has an id of its own that follows from
    study, trial and name: to attach it again replaces it.

    Args:
        uid: of the study; the same after it was copied or renamed.
    """

    def __init__(self, study: optuna.Study, uid: str, store: "ArtifactStore") -> None:
        self._storage = study._storage
        self._study_id = study._study_id
        self._uid = uid
        self._store = store
        self._known = self._storage.get_study_system_attrs(self._study_id)

    def has(self, trial: FrozenTrial, name: str) -> bool:
        """Whether there is an attachment of that name."""
        key, artifact_id = self._key(trial, name)
        return self._known.get(key) is not None and self._read(artifact_id) is not None

    def attach(self, trial: FrozenTrial, name: str, data: bytes) -> str:
        """Attach a file; what is there already is not written again.

        Args:
            name: as the page shows it; its ending says what it holds.

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
        return f"/artifacts/{self._study_id}/{trial._trial_id}/{artifact_id}"

    def _key(self, trial: FrozenTrial, name: str) -> tuple[str, str]:
        artifact_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._uid}/{trial.number}/{name}"))
        return f"dashboard:artifacts:{trial._trial_id}:{artifact_id}", artifact_id

    def _read(self, artifact_id: str) -> bytes | None:
        try:
            with self._store.open_reader(artifact_id) as file:
                return file.read()
        except ArtifactNotFound:
            return None
