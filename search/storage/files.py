"""Whole files under keys, in a directory or in an S3-compatible store."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from search.address import redact, shown
from search.errors import StorageError
from search.text import install_extra

__all__ = ["Files", "check_address", "check_place", "open_files", "place_of"]


class Files(Protocol):
    """Where whole files are kept; a key is a path with slashes."""

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with a prefix, those that a killed writer left half-written too."""
        ...

    def read(self, key: str) -> bytes | None:
        """The file; None when there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Create or replace a file; readers see the old one or the new one."""
        ...

    def remove(self, key: str) -> None:
        """Delete a file where there is one."""
        ...

    def remove_below(self, folder: str) -> int:
        """Delete every file whose key begins with a folder and a slash; returns how many."""
        ...


def place_of(address: str | Path) -> str:
    """An address as it is stored: the same place for a process in another directory."""
    text = str(address)
    return text if "://" in text else str(Path(text).absolute())


def open_files(address: str) -> Files:
    """The files at an address.

    Raises:
        StorageError: the address is of a kind that is not known or holds credentials, or boto3 is
            not installed.
    """
    check_address(address)
    _, separator, rest = address.partition("://")
    if not separator:
        return _Directory(Path(address))
    bucket, _, prefix = rest.partition("/")
    return _Bucket(bucket, prefix.strip("/"))


def check_address(address: str) -> None:
    """Refuse an address that is none of checkpoints, on whatever machine it is used.

    Raises:
        StorageError: it is of a kind that is not known, holds credentials, or has no bucket.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return
    if scheme != "s3":
        raise StorageError(
            f"checkpoints go to a directory or to s3://BUCKET/PREFIX, got {shown(address)!r}; "
            "give one of these"
        )
    if "@" in rest or "?" in rest:
        raise StorageError(
            f"an address of checkpoints holds no credentials and no options, got "
            f"{shown(address)!r}; give s3://BUCKET/PREFIX, and credentials in the environment"
        )
    if not rest.partition("/")[0]:
        raise StorageError(f"s3 checkpoints need a bucket, got {address!r}; s3://BUCKET/PREFIX")


def check_place(address: str) -> None:
    """Refuse an address that a person gives, and at which no directory can be on this machine.

    Raises:
        StorageError: see `check_address`; or a file is in the way, or nobody may look.
    """
    check_address(address)
    if "://" in address:
        return
    path = Path(address).absolute()
    try:
        there = next(one for one in (path, *path.parents) if one.exists())
        found = "" if there.is_dir() else f"{there} is a file"
    except OSError as error:
        found = str(error.strerror)
    if found:
        raise StorageError(
            f"checkpoints go to a directory or to s3://BUCKET/PREFIX, got {address!r}, but "
            f"{found}; give another"
        )


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def keys(self, prefix: str) -> list[str]:
        folder, _, start = prefix.rpartition("/")
        try:
            names = {_name_of(path) for path in (self._root / folder).iterdir()}
        except FileNotFoundError:
            return []
        return [f"{folder}/{name}" for name in sorted(names) if name.startswith(start)]

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

    def remove_below(self, folder: str) -> int:
        target = self._root / folder
        count = sum(path.is_file() for path in target.rglob("*"))
        if target.exists():
            shutil.rmtree(target)
        return count


class _Bucket:
    def __init__(self, bucket: str, prefix: str) -> None:
        self._client, self._absent = _s3(bucket)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def keys(self, prefix: str) -> list[str]:
        return [key.removeprefix(self._prefix) for key in self._listed(self._prefix + prefix)]

    def _listed(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                yield found["Key"]

    def read(self, key: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        except self._absent:
            return None
        with closing(answer["Body"]) as body:
            return bytes(body.read())

    def write(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def remove_below(self, folder: str) -> int:
        keys = self.keys(f"{folder}/")
        for key in keys:
            self.remove(key)
        return len(keys)


def _s3(bucket: str) -> tuple[Any, type[Exception]]:
    """A client, and what it raises for a key that does not exist."""
    try:
        import boto3
    except ImportError as error:
        raise StorageError(
            "checkpoints in s3:// need boto3, which is not installed; "
            f"{install_extra('s3')}, or give a directory"
        ) from error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60
    )
    try:
        client = boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        raise StorageError(
            f"cannot use s3://{bucket}: {redact(line, endpoint)}; see boto3's settings"
        ) from error
    return client, client.exceptions.NoSuchKey


def _name_of(path: Path) -> str:
    """The name of a file, or of the one that a half-written file was to become."""
    return path.stem[1:] if path.name.startswith(".") else path.name


def _sync_directory(directory: Path) -> None:
    """Make the new name itself last; not every platform lets a directory be opened."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
