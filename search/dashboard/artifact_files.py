"""The files of a study's artifacts, to be deleted with it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.dashboard.artifacts import PLACE

__all__ = ["artifact_files"]

#: Keys of artifacts: those of `Pictures` and of optuna-dashboard, and of Optuna's upload_artifact.
_KEYS = re.compile(r"(?:dashboard:artifacts:(?:\d+:)?|artifacts:)(.+)")


def artifact_files(system_attrs: Mapping[str, Any], trials: Iterable[FrozenTrial]) -> list[Path]:
    """The files of the artifacts of a study and its trials that lie on this machine."""
    ids = {
        found[1]
        for attrs in (system_attrs, *(trial.system_attrs for trial in trials))
        for key in attrs
        if (found := _KEYS.fullmatch(key)) and "/" not in found[1]
    }
    folders = {PLACE.absolute(), *map(Path, system_attrs.get(attributes.ARTIFACTS, ()))}
    return [file for folder in sorted(folders) for name in sorted(ids)
            if (file := folder / name).is_file()]  # fmt: skip
