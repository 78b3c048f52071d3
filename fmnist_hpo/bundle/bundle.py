"""The folder a model is exported to: its manifest, how it is written, and how every reader checks.

A bundle is read whole into memory and verified there, so what is used is what was verified.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fmnist_hpo.atomic import write_folder
from fmnist_hpo.errors import InputError

__all__ = ["REMEDY", "Bundle", "check_replaceable", "has_probabilities", "to_json"]

MANIFEST = "manifest.json"
FORMAT = "fmnist-hpo bundle 2"
REMEDY = "export the study again, or fetch the bundle again"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An exported model whose every byte has been compared with the manifest's SHA-256 sums."""

    path: Path
    files: Mapping[str, bytes]  # by name relative to the folder, with "/"; without the manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read and verify a bundle.

        Raises:
            InputError: no such folder, no bundle, one that cannot be read, or a byte that is
                missing, changed or extra.
        """
        while True:
            before = _identity(path)
            try:
                return cls(path=path, files=_verified(path))
            except (InputError, OSError) as error:
                if _identity(path) != before:
                    continue  # the folder was replaced while it was read; read the new one
                if isinstance(error, OSError):
                    raise _unreadable(path, error) from error
                raise

    @classmethod
    def write(cls, path: Path, files: Mapping[str, bytes]) -> Self:
        """Write a bundle, whole or not at all; a bundle of the same study is replaced in one step.

        Raises:
            InputError: `path` is something else than a bundle of the same study, or the disk is
                full or not writable; nothing was changed then.
        """
        bundle = cls(path=path, files=dict(files))
        provenance = bundle.provenance
        check_replaceable(path, provenance["study"], provenance["study_uid"])
        try:
            write_folder(path, {**files, MANIFEST: _manifest(files)})
        except OSError as error:
            size = sum(map(len, files.values()))
            raise InputError(
                f"cannot write the bundle {path} ({size:,} bytes): {error.strerror}; nothing was "
                "changed; make room there or name another folder"
            ) from error
        return bundle

    def read(self, name: str) -> bytes:
        """One file's bytes. Raises InputError when the bundle has no such file."""
        if name not in self.files:
            raise InputError(f"bundle {self.path}: need the file {name}, got none; {REMEDY}")
        return self.files[name]

    def read_json(self, name: str) -> dict[str, Any]:
        """One JSON file. Raises InputError when it is missing or holds no JSON object."""
        try:
            value = json.loads(self.read(name))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise InputError(f"bundle {self.path}: need a JSON object in {name}; {REMEDY}")
        return value

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Architecture, preprocessing and classes: config.json."""
        return self.read_json("config.json")

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """Curves and figures of merit: metrics.json."""
        return self.read_json("metrics.json")

    @functools.cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the model comes from: provenance.json."""
        return self.read_json("provenance.json")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the model's outputs."""
        return tuple(self.config["classes"])

    @property
    def image_size(self) -> tuple[int, int]:
        """(rows, columns) of an image the model takes."""
        rows, columns = self.config["image_size"]
        return rows, columns

    @property
    def has_probabilities(self) -> bool:
        """See the function of that name."""
        return has_probabilities(self.config)


def has_probabilities(config: Mapping[str, Any]) -> bool:
    """Whether a model's shares are probabilities; an SVM's decision values only order the classes.

    Args:
        config: the contents of its config.json.
    """
    return config.get("outputs") != "decision values"


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON as every file of a bundle has it: indented, in the order given, NaN refused."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _manifest(files: Mapping[str, bytes]) -> bytes:
    return to_json({"format": FORMAT, "files": {name: _sum(files[name]) for name in sorted(files)}})


def _sum(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _verified(path: Path) -> dict[str, bytes]:
    """The files of a bundle, each compared with the manifest."""
    expected = _read_manifest(path)
    names = {
        entry.relative_to(path).as_posix() for entry in path.rglob("*") if not entry.is_dir()
    } - {MANIFEST}
    for name in sorted(names - expected.keys()):
        raise InputError(
            f"bundle {path}: {name} is not in {MANIFEST}: expected no such file, found one; "
            "move it out of the bundle"
        )
    files = {}
    for name, record in expected.items():
        if name not in names or not (path / name).is_file():
            raise InputError(
                f"bundle {path}: {name} is missing: expected {record['bytes']} bytes with SHA-256 "
                f"{record['sha256']}, found no file; {REMEDY}"
            )
        files[name] = _read(path / name)
        found = _sum(files[name])
        if found != record:
            raise InputError(
                f"bundle {path}: {name} was changed: expected {record['bytes']} bytes with SHA-256 "
                f"{record['sha256']}, found {found['bytes']} bytes with {found['sha256']}; {REMEDY}"
            )
    return files


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_dir():
        raise InputError(f"need the folder of a bundle, got {path}, which is no folder; {REMEDY}")
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"need a bundle, got {path}, which has no {MANIFEST}; name the folder `export` wrote"
        )
    data = _read(path / MANIFEST)
    try:
        manifest = json.loads(data)
        files: dict[str, dict[str, Any]] = dict(manifest["files"])
        # written again it must be the same bytes, so that no byte of the manifest is free
        sound = data == to_json({"format": FORMAT, "files": files}) and all(
            isinstance(record, dict) and set(record) == {"bytes", "sha256"}
            for record in files.values()
        )
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise InputError(
            f"bundle {path}: {MANIFEST} was changed: expected a manifest as `export` writes it "
            f"({FORMAT}), found {hashlib.sha256(data).hexdigest()}; {REMEDY}"
        )
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {path}: {error.strerror}; {REMEDY}")


def check_replaceable(path: Path, study: str, study_uid: str) -> None:
    """Refuse all but an empty folder or a bundle of this very study, damaged or not.

    Args:
        study, study_uid: name and uid; of two studies of one name each has its own uid.

    Raises:
        InputError: something else is there.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        (path / MANIFEST).stat()
        there = json.loads((path / "provenance.json").read_bytes())
        other, other_uid = there["study"], there["study_uid"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"need a new folder or an earlier bundle of the study, got {path}, which is something "
            "else; move it away or name another folder"
        ) from error
    if other_uid != study_uid:
        whose = f"another study called {other}" if other == study else f"study {other}"
        raise InputError(
            f"need a folder for study {study}, got {path}, which holds a bundle of {whose}; "
            "move it away or name another folder"
        )
