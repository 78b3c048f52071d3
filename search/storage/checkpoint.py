"""One checkpoint per lineage, whole or absent, in a directory or an artifact store of Optuna's.

A checkpoint is stored behind a header with its length and SHA-256, so bytes that a crash, a full
disk or a half-finished upload left behind are never taken for one.
"""

import copy
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from search.errors import StorageError

if TYPE_CHECKING:  # importing it takes a third of a second where boto3 is installed
    from optuna.artifacts._protocol import ArtifactStore

__all__ = ["CheckpointStore"]

_MAGIC = b"checkpoint 1\n"
_LENGTH_BYTES = 8
_DIGEST_BYTES = 32


class _Files(Protocol):
    """Where whole files are kept by key."""

    def read(self, key: str) -> bytes | None: ...

    def write(self, key: str, data: bytes) -> None: ...

    def remove(self, key: str) -> None: ...


class CheckpointStore:
    """The checkpoints of one study.

    A store that fails never fails a trial: what cannot be written or read is said, and a retry of
    the trial then starts from an older checkpoint or over.

    Args:
        address: a directory, `s3://bucket/prefix` (the endpoint is taken from AWS_ENDPOINT_URL,
            credentials from where boto3 looks for them), or an artifact store of Optuna's.
        uid: of the study.
        warn: is given one line when a checkpoint is missing where one was expected, is damaged, or
            cannot be read or written.

    Raises:
        StorageError: an address of a kind that is not known, or boto3 is not installed.
    """

    def __init__(
        self,
        address: "str | Path | ArtifactStore",
        uid: str,
        *,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.address = str(address)
        self._files = _open(address)
        self._uid = uid
        self._warn = warn

    def save(self, lineage: int, data: bytes) -> None:
        """Replace the checkpoint of a lineage."""
        digest = hashlib.sha256(data).digest()
        packed = b"".join((_MAGIC, len(data).to_bytes(_LENGTH_BYTES, "big"), digest, data))
        try:
            self._files.write(self._key(lineage), packed)
        except Exception as error:
            self._warn(
                f"the checkpoint of lineage {lineage} could not be written ({_line(error)}); "
                "the trial runs on, a retry of it would repeat more"
            )

    def load(self, lineage: int, *, expected: bool = False) -> bytes | None:
        """The last bytes saved for a lineage; None when there are none that can be trusted.

        Args:
            expected: whether there should be one, so that its absence is said.
        """
        try:
            packed = self._files.read(self._key(lineage))
        except Exception as error:
            self._warn(
                f"the checkpoint of lineage {lineage} could not be read ({_line(error)}); "
                "its trial starts over"
            )
            return None
        if packed is None:
            if expected:
                self._warn(f"the checkpoint of lineage {lineage} is missing; its trial starts over")
            return None
        data = _unpack(packed)
        if data is None:
            self._warn(f"the checkpoint of lineage {lineage} is damaged; its trial starts over")
        return data

    def delete(self, lineage: int) -> None:
        """Delete the checkpoint of a lineage where there is one."""
        try:
            self._files.remove(self._key(lineage))
        except Exception as error:
            self._warn(f"the checkpoint of lineage {lineage} could not be deleted ({_line(error)})")

    def apart(self, name: str) -> "CheckpointStore":
        """A store in the same place, for other checkpoints of the same lineages."""
        other = copy.copy(self)
        other._uid = f"{self._uid}/{name}"
        return other

    def _key(self, lineage: int) -> str:
        return f"{self._uid}/{lineage:06d}.checkpoint"


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes) -> None:
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)

    def remove(self, key: str) -> None:
        target = self._root / key
        target.unlink(missing_ok=True)
        for leftover in target.parent.glob(f".{target.name}.*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)


class _Artifacts:
    """The key is the artifact id: nothing has to be listed, and saving again replaces."""

    def __init__(self, store: "ArtifactStore", prefix: str = "") -> None:
        from optuna.artifacts.exceptions import ArtifactNotFound

        self._absent = ArtifactNotFound
        self._store = store
        self._prefix = prefix

    def read(self, key: str) -> bytes | None:
        try:
            with closing(self._store.open_reader(self._prefix + key)) as reader:
                return bytes(reader.read())
        except self._absent:
            return None

    def write(self, key: str, data: bytes) -> None:
        self._store.write(self._prefix + key, io.BytesIO(data))

    def remove(self, key: str) -> None:
        with suppress(self._absent):
            self._store.remove(self._prefix + key)


def _open(address: "str | Path | ArtifactStore") -> _Files:
    if isinstance(address, Path):
        return _Directory(address)
    if not isinstance(address, str):
        return _Artifacts(address)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _Directory(Path(address))
    if scheme != "s3":
        raise StorageError(
            f"checkpoints go to a directory or to s3://BUCKET/PREFIX, got {address!r}; "
            "give one of these"
        )
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise StorageError(f"s3 checkpoints need a bucket, got {address!r}; s3://BUCKET/PREFIX")
    return _Artifacts(_s3(bucket), f"{prefix.strip('/')}/" if prefix.strip("/") else "")


def _s3(bucket: str) -> "ArtifactStore":
    try:
        import boto3
    except ImportError as error:
        raise StorageError(
            "checkpoints in s3:// need boto3, which is not installed; "
            "install fmnist-hpo[s3], or give a directory"
        ) from error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from optuna.artifacts import Boto3ArtifactStore

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60
    )
    try:
        return Boto3ArtifactStore(bucket, boto3.client("s3", config=config))
    except (BotoCoreError, ValueError) as error:
        raise StorageError(
            f"cannot use s3://{bucket}: {_line(error)}; see boto3's settings"
        ) from error


def _unpack(packed: bytes) -> bytes | None:
    head = len(_MAGIC)
    body = head + _LENGTH_BYTES + _DIGEST_BYTES
    if len(packed) < body or packed[:head] != _MAGIC:
        return None
    length = int.from_bytes(packed[head : head + _LENGTH_BYTES], "big")
    data = packed[body:]
    if len(data) != length or hashlib.sha256(data).digest() != packed[body - _DIGEST_BYTES : body]:
        return None
    return data


def _sync_directory(directory: Path) -> None:
    """Make the new name itself last; not every platform lets a directory be opened."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
