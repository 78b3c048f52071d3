"""Reads idx files (the format of MNIST), plain or gzipped, hashed and mapped into memory.

The format: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension
as a big-endian 32-bit number, then the values (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.atomic import write_whole
from fmnist_hpo.errors import InputError

__all__ = ["cache_directory", "content_hash", "locate", "open_idx", "present"]

_CHUNK = 1 << 20  # bytes read at a time
_UNSIGNED_BYTE = 8  # idx type code


def cache_directory() -> Path:
    """The user's cache of this program: $XDG_CACHE_HOME or ~/.cache, and /fmnist-hpo."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fmnist-hpo"


def present(directory: Path, name: str) -> Path | None:
    """The file of that name in the directory, plain or with .gz; None when neither is there.

    Raises:
        OSError: the directory may not be entered.
    """
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def locate(directory: Path, name: str, *, known: bool = True) -> Path:
    """Like `present`, for a file that is needed.

    Args:
        known: whether it is Fashion-MNIST's directory, which the command line names, and not that
            of another data set, which the study does.

    Raises:
        InputError: neither is there, or the directory cannot be read.
    """
    elsewhere = (
        "another directory with --data-dir" if known else "another dir in the study's [data]"
    )
    try:
        path = present(directory, name)
        if path is not None:
            return path
        found = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        raise InputError(
            f"{directory} cannot be read: {error.strerror}; check its permissions or name "
            f"{elsewhere}"
        ) from error
    raise InputError(
        f"{directory} must hold {name} or {name}.gz, found "
        f"{', '.join(found[:6]) if found else 'nothing'}; put the file there or name {elsewhere}"
    )


def content_hash(path: Path, expected: str | None = None) -> str:
    """SHA-256 of a file's content, decompressed when its name ends in .gz.

    Raises:
        InputError: it cannot be read, is truncated, or its hash is not the expected one.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(path, expected):
        digest.update(chunk)
    found = digest.hexdigest()
    if expected is not None and found != expected:
        raise InputError(
            f"{path} is altered: expected SHA-256 {expected} (decompressed), found {found}; "
            "delete it and fetch it again (or name another data set's directory in [data])"
        )
    return found


def open_idx(path: Path, expected: str | None = None) -> tuple[NDArray[np.uint8], str]:
    """Check a file and map its values into memory: (array of the file's shape, SHA-256).

    A gzipped file is decompressed into the user's cache, under the name of its hash, and mapped
    from there, so that all processes of a machine share one copy. Content is hashed at every
    opening. The mapping is copy-on-write: the file cannot be changed through it.

    Raises:
        InputError: see `content_hash`; or it is no idx file of unsigned bytes; or no cache.
    """
    found = content_hash(path, expected)
    plain = _decompressed(path, found) if path.suffix == ".gz" else path
    shape, offset = _header(plain, shown=path)
    mapped = np.memmap(plain, dtype=np.uint8, mode="c", offset=offset, shape=shape)
    return mapped, found


def _chunks(path: Path, expected: str | None = None) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        content = f"with content of SHA-256 {expected}" if expected else "that is whole"
        raise InputError(
            f"{path} is damaged: expected a gzip file {content}, found one that ends early or is "
            f"altered ({error}); delete it and fetch it again"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions"
        ) from None


def _decompressed(path: Path, digest: str) -> Path:
    """The decompressed twin of a .gz file in the cache, written whole or not at all."""
    folder = cache_directory() / "idx"
    target = folder / digest
    if target.is_file() and content_hash(target) == digest:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with write_whole(target, public=False) as out:
            for chunk in _chunks(path):
                out.write(chunk)
    except OSError as error:
        raise InputError(
            f"{folder} must be writable to hold decompressed images, got: "
            f"{error.strerror or error}; free space, or set XDG_CACHE_HOME to another directory"
        ) from None
    return target


def _header(path: Path, shown: Path) -> tuple[tuple[int, ...], int]:
    """(shape, bytes before the first value)."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(4)
        dimensions = start[3] if len(start) == 4 else 0
        sizes = stream.read(4 * dimensions)
    if (
        start[:3] != bytes((0, 0, _UNSIGNED_BYTE))
        or not 1 <= dimensions <= 3
        or len(sizes) < 4 * dimensions
    ):
        raise InputError(
            f"{shown} must be an idx file of unsigned bytes (it starts with 00 00 08), "
            f"found {start.hex(' ') or 'nothing'}; export the data set in that format"
        )
    shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
    offset = 4 + 4 * dimensions
    needed = offset + math.prod(shape)
    if size != needed or math.prod(shape) == 0:
        raise InputError(
            f"{shown} is truncated or padded: its header {shape} needs {needed} bytes, "
            f"found {size}; delete it and fetch it again"
        )
    return shape, offset
