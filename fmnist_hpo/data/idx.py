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

from fmnist_hpo.atomic import alone, write_whole
from fmnist_hpo.errors import InputError

__all__ = ["cache_directory", "content_hash", "locate", "open_idx", "present"]

_CHUNK = 1 << 20  # bytes read at a time
_UNSIGNED_BYTE = 8  # idx type code
MOST_DIMENSIONS = 3
MOST_BYTES = 16 << 30  # of a data set's images, which live in memory


def cache_directory() -> Path:
    """The user's cache of this program: $XDG_CACHE_HOME or ~/.cache, and /fmnist-hpo.

    Raises:
        InputError: the user has no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "fmnist-hpo"
    except RuntimeError as error:
        raise InputError(
            f"the cache of data needs a home directory, got none of user {os.getuid()}; set HOME "
            "or XDG_CACHE_HOME"
        ) from error


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
        "another directory with --data-dir"
        if known
        else "another dir in [data], or put a link to the data there for a study that exists"
    )
    try:
        path = present(directory, name)
        if path is not None:
            return path
        if not directory.is_dir():
            found = "a file" if directory.exists() else "nothing of that name"
            raise InputError(
                f"need a folder with {name}, got {directory}, {found}; name {elsewhere}"
            )
        for folder in (directory / name, directory / f"{name}.gz"):
            if folder.is_dir():
                raise InputError(
                    f"need the file {folder}, found a folder of that name; move the file out of "
                    f"it, or name {elsewhere}"
                )
        found = ", ".join(sorted(path.name for path in directory.iterdir())[:6])
    except OSError as error:
        raise InputError(
            f"{directory} cannot be read: {error.strerror}; check its permissions or name "
            f"{elsewhere}"
        ) from error
    raise InputError(
        f"{directory} must hold {name} or {name}.gz, found {found or 'nothing'}; put the file "
        f"there or name {elsewhere}"
    )


def content_hash(path: Path, expected: str | None = None) -> str:
    """SHA-256 of an idx file's content, decompressed when its name ends in .gz.

    Raises:
        InputError: it cannot be read, is no idx file, is truncated or longer than its header says,
            or its hash is not the expected one.
    """
    digest = hashlib.sha256()
    for chunk in _Content(path, expected).chunks():
        digest.update(chunk)
    return _compare(path, digest.hexdigest(), expected)


def open_idx(
    path: Path, expected: str | None = None, *, most_bytes: int = MOST_BYTES
) -> tuple[NDArray[np.uint8], str]:
    """Check a file and map its values into memory: (array of the file's shape, SHA-256).

    A gzipped file is decompressed into the user's cache, under the name of its hash, and mapped
    from there, so that all processes of a machine share one copy. Content is hashed at every
    opening. The mapping is copy-on-write: the file cannot be changed through it.

    Args:
        most_bytes: what the header may ask for; more is refused before anything is decompressed.

    Raises:
        InputError: see `content_hash`; or it is too large; or the cache cannot be written.
    """
    content = _Content(path, expected)
    if content.bytes > most_bytes:
        raise InputError(
            f"{path} is too large: its header {content.shape} asks for {content.bytes:,} bytes, "
            f"{most_bytes:,} are the most; split the data set"
        )
    found = content_hash(path, expected)
    plain = _decompressed(content, found) if path.suffix == ".gz" else path
    mapped = np.memmap(plain, dtype=np.uint8, mode="c", offset=content.offset, shape=content.shape)
    return mapped, found


def _compare(path: Path, found: str, expected: str | None) -> str:
    if expected is not None and found != expected:
        raise InputError(
            f"{path} is altered: expected SHA-256 {expected} (decompressed), found {found}; "
            "delete it and fetch it again (or name another data set's directory in [data])"
        )
    return found


class _Content:
    """The content of a file, as its header describes it; no more is ever decompressed."""

    def __init__(self, path: Path, expected: str | None) -> None:
        self.path = path
        self.expected = expected
        stream = self._read(4 + 4 * MOST_DIMENSIONS)
        start = next(stream, b"")
        dimensions = start[3] if len(start) >= 4 else 0
        self.offset = 4 + 4 * dimensions
        if (
            start[:3] != bytes((0, 0, _UNSIGNED_BYTE))
            or not 1 <= dimensions <= MOST_DIMENSIONS
            or len(start) < self.offset
        ):
            raise InputError(
                f"{path} must be an idx file of unsigned bytes (it starts with 00 00 08), found "
                f"{start[:4].hex(' ') or 'nothing'}; {self._remedy()}"
            )
        sizes = np.frombuffer(start[4 : self.offset], dtype=">u4")
        self.shape = tuple(int(size) for size in sizes)
        self.bytes = self.offset + math.prod(self.shape)  # of the content, header included
        plain = path.suffix != ".gz"
        if self.bytes == self.offset or (plain and path.stat().st_size != self.bytes):
            raise self._wrong_length(str(path.stat().st_size) if plain else "no image")

    def chunks(self) -> Iterator[bytes]:
        """The content, in pieces.

        Raises:
            InputError: it is shorter or longer than the header says.
        """
        done = 0
        for chunk in self._read(_CHUNK):
            done += len(chunk)
            if done > self.bytes:
                raise self._wrong_length("more")
            yield chunk
        if done < self.bytes:
            raise self._wrong_length(str(done))

    def _read(self, size: int) -> Iterator[bytes]:
        path = self.path
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                while chunk := stream.read(size):
                    yield chunk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            whole = f"with content of SHA-256 {self.expected}" if self.expected else "that is whole"
            raise InputError(
                f"{path} is damaged: expected a gzip file {whole}, found one that ends early or "
                f"is altered ({error}); delete it and fetch it again"
            ) from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror or error}; check its permissions"
            ) from None

    def _wrong_length(self, found: str) -> InputError:
        return InputError(
            f"{self.path} is truncated or padded: its header {self.shape} needs {self.bytes} "
            f"bytes, found {found}; {self._remedy()}"
        )

    def _remedy(self) -> str:
        if self.expected is None:
            return "export the data set in that format"
        return f"expected SHA-256 {self.expected} (decompressed); delete it and fetch it again"


def _decompressed(content: _Content, digest: str) -> Path:
    """The decompressed copy of a .gz file in the cache, written whole or not at all.

    One process writes at a time, others wait for it. What a killed one has left is removed.
    """
    folder = cache_directory() / "idx"
    target = folder / digest
    try:
        if _is_sound(target, digest):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder) as locked:
            if _is_sound(target, digest):  # by now
                return target
            for left in folder.glob(".*") if locked else ():
                left.unlink(missing_ok=True)
            with write_whole(target, public=False) as out:
                for chunk in content.chunks():
                    out.write(chunk)
    except OSError as error:
        raise InputError(
            f"{folder} must be writable to hold decompressed images, got: "
            f"{error.strerror or error}; free space, or set XDG_CACHE_HOME to another directory"
        ) from None
    return target


def _is_sound(copy: Path, digest: str) -> bool:
    """Whether a decompressed copy is there and whole.

    Raises:
        OSError: the cache may not be entered.
    """
    try:
        return copy.is_file() and content_hash(copy) == digest
    except InputError:
        return False
