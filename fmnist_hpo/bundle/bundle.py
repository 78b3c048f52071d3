"""The folder a model is exported to: how it is written, and how every reader checks it.

A bundle is read whole into memory and verified there, so what is used is what was verified. Its
manifest holds a SHA-256 sum of each file. Nobody signs the manifest: the sums show that a bundle is
whole, not who made it.
"""

import functools
import hashlib
import logging
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from fmnist_hpo.atomic import write_folder
from fmnist_hpo.bundle.fields import REMEDY, Fields, to_json
from fmnist_hpo.bundle.records import Config, ModelMetrics, StoredProvenance
from fmnist_hpo.errors import InputError

__all__ = ["Bundle", "check_replaceable"]

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = "fmnist-hpo bundle 2"
MOST_BYTES = 4 << 30  # of all files together, which are read into memory
MOST_MANIFEST_BYTES = 1 << 20
SHOWN = 5  # names of foreign files in a warning


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An exported model whose every byte has been compared with the manifest's SHA-256 sums."""

    path: Path
    files: Mapping[str, bytes]  # by name relative to the folder, with "/"; without the manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read and verify a bundle. A file that is not in the manifest is ignored with a warning.

        Raises:
            InputError: no such folder, no bundle, one that cannot be read or is too large, or a
                byte that is missing or changed.
        """
        while True:
            before = _identity(path)
            try:
                return cls(path=path, files=_verified(path))
            except (InputError, OSError, MemoryError) as error:
                if _identity(path) != before:
                    continue  # the folder was replaced while it was read; read the new one
                if isinstance(error, OSError):
                    raise _unreadable(path, error) from error
                if isinstance(error, MemoryError):
                    raise InputError(
                        f"bundle {path} does not fit into this machine's memory; {REMEDY}, or use "
                        "a larger machine"
                    ) from error
                raise

    @classmethod
    def write(cls, path: Path, files: Mapping[str, bytes], *, over: Self | None = None) -> Self:
        """Write a bundle, whole or not at all; a bundle of the same study is replaced in one step.

        Files in the folder that are not the bundle's stay there.

        Args:
            over: the bundle whose files are changed, as it was read from `path`; another model that
                a process has written there since is not replaced.

        Raises:
            InputError: `path` is something else than a bundle of the same study, the files are too
                large for a reader, or the disk is full or not writable; nothing was changed then.
        """
        bundle = cls(path=path, files=dict(files))
        size = sum(map(len, files.values()))
        if size > MOST_BYTES:
            raise InputError(
                f"need a bundle of at most {MOST_BYTES:,} bytes, got {size:,}; choose a smaller "
                "model, as one of fewer trees"
            )
        owner = bundle.fields("provenance.json")
        study, uid = owner.text("study"), owner.text("study_uid")
        check_replaceable(path, study, uid)

        def foreign() -> Collection[str]:
            check_replaceable(path, study, uid)  # nobody else writes there now
            if over is not None:
                _check_same(
                    path, {n: data for n, data in files.items() if over.files.get(n) == data}
                )
            return _foreign(path)

        try:
            write_folder(path, {**files, MANIFEST: _manifest(files)}, keep=foreign)
        except OSError as error:
            raise InputError(
                f"cannot write the bundle {path} ({size:,} bytes): {error.strerror}; what is "
                "there stays as it was; make room there, or use another folder"
            ) from error
        return bundle

    def read(self, name: str) -> bytes:
        """One file's bytes. Raises InputError when the bundle has no such file."""
        if name not in self.files:
            raise InputError(f"bundle {self.path}: need the file {name}, got none; {REMEDY}")
        return self.files[name]

    def fields(self, name: str) -> Fields:
        """One JSON file. Raises InputError when it is missing or holds no JSON object."""
        return Fields.parse(self.read(name), f"bundle {self.path}: {name}")

    @functools.cached_property
    def config(self) -> Config:
        """config.json. Raises InputError where it is missing or absurd."""
        return Config.of(self.fields("config.json"))

    @functools.cached_property
    def metrics(self) -> ModelMetrics:
        """metrics.json. Raises InputError where it is missing or absurd."""
        return ModelMetrics.of(self.fields("metrics.json"))

    @functools.cached_property
    def provenance(self) -> StoredProvenance:
        """provenance.json. Raises InputError where it is missing or absurd."""
        return StoredProvenance.of(self.fields("provenance.json"))


def check_replaceable(
    path: Path, study: str, study_uid: str | None, *, instead: str = "name another folder"
) -> None:
    """Refuse all but an empty folder or a bundle of this very study, damaged or not.

    Args:
        study, study_uid: name and uid; of two studies of one name each has its own uid. One that
            is not stored yet has None.
        instead: what a user may do, rather than move away what is there.

    Raises:
        InputError: something else is there.
    """
    try:
        if is_free(path):
            return
    except OSError as error:
        raise InputError(f"cannot look into {path}: {error.strerror}; {instead}") from error
    try:
        (path / MANIFEST).stat()
        there = Fields.parse(_read(path / "provenance.json", MOST_MANIFEST_BYTES), str(path))
        other, other_uid = there.text("study"), there.text("study_uid")
    except (OSError, InputError) as error:
        raise InputError(
            f"need a new folder or an earlier bundle of the study, got {path}, which is something "
            f"else; move it away, or {instead}"
        ) from error
    if other_uid != study_uid:
        whose = f"another study called {other}" if other == study else f"study {other}"
        raise InputError(
            f"need a folder for study {study}, got {path}, which holds a bundle of {whose}; "
            f"move it away, or {instead}"
        )


def is_free(path: Path) -> bool:
    """Whether nothing is there, or an empty folder. Raises OSError where one cannot look."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _check_same(path: Path, files: Mapping[str, bytes]) -> None:
    """Refuse to replace a bundle in which one of these files is another by now."""
    if not path.exists():
        return
    there = _read_manifest(path)
    if any(there.get(name) != _sum(data) for name, data in files.items()):
        raise InputError(
            f"bundle {path} was replaced by another command while this one was at work, and stays "
            "as that left it; export into a folder of its own, and run this command on that"
        )


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
    """The files of a bundle, each compared with the manifest: its size first, then its bytes."""
    expected = _read_manifest(path)
    total = sum(record["bytes"] for record in expected.values())
    if total > MOST_BYTES:
        raise InputError(
            f"bundle {path}: need files of at most {MOST_BYTES:,} bytes together, got {total:,} in "
            f"{MANIFEST}; {REMEDY}"
        )
    files = {}
    for name, record in expected.items():
        needed = f"expected {record['bytes']} bytes with SHA-256 {record['sha256']}"
        try:
            status = (path / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            there = "a folder" if status and stat.S_ISDIR(status.st_mode) else "no file"
            raise InputError(f"bundle {path}: {name} is missing: {needed}, found {there}; {REMEDY}")
        if status.st_size != record["bytes"]:
            raise InputError(
                f"bundle {path}: {name} was changed: {needed}, found {status.st_size} bytes; "
                f"{REMEDY}"
            )
        files[name] = _read(path / name, record["bytes"])
        found = _sum(files[name])
        if found != record:
            raise InputError(
                f"bundle {path}: {name} was changed: {needed}, found {found['bytes']} bytes with "
                f"{found['sha256']}; {REMEDY}"
            )
    foreign = _others(path, expected)
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        log.warning(
            "%s",
            InputError(
                f"bundle {path}: ignored {', '.join(foreign[:SHOWN])}{more}, which "
                f"{'are' if len(foreign) > 1 else 'is'} not in {MANIFEST}"
            ),
        )
    return files


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_dir():
        raise InputError(f"need the folder of a bundle, got {path}, which is no folder; {REMEDY}")
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"need a bundle, got {path}, which has no {MANIFEST}; name the folder `export` wrote"
        )
    data = _read(path / MANIFEST, MOST_MANIFEST_BYTES)
    try:
        fields = Fields.parse(data, MANIFEST).object("files")
        files = fields.values
        for name in files:
            record = fields.object(name)
            record.whole("bytes")
            record.text("sha256")
        # written again it must be the same bytes, so that no byte of the manifest is free
        sound = data == to_json({"format": FORMAT, "files": files}) and all(
            set(record) == {"bytes", "sha256"} and _is_inside(name)
            for name, record in files.items()
        )
    except InputError:
        sound = False
    if not sound:
        raise InputError(
            f"bundle {path}: {MANIFEST} was changed: expected a manifest as `export` writes it "
            f"({FORMAT}), found {hashlib.sha256(data).hexdigest()}; {REMEDY}"
        )
    return dict(files)


def _is_inside(name: str) -> bool:
    """Whether a name leads to a file within the folder, and is written in the one usual way."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name != "."


def _others(path: Path, names: Mapping[str, Any]) -> list[str]:
    """The files below a folder that are neither the manifest nor among the names, sorted."""
    found = {
        (Path(folder) / name).relative_to(path).as_posix()
        for folder, _, files in os.walk(path)
        for name in files
    }
    return sorted(found - names.keys() - {MANIFEST})


def _foreign(path: Path) -> list[str]:
    """The files in a bundle's folder that are not the bundle's; none where nobody can tell."""
    try:
        return _others(path, _read_manifest(path))
    except (InputError, OSError):
        return []


def _read(path: Path, most: int) -> bytes:
    """A file's bytes, at most one more than `most` so that a longer file is noticed."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {path}: {error.strerror}; {REMEDY}")
