"""A cache of arrays on disk, shared by all workers of a machine."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.atomic import write_whole
from fmnist_hpo.errors import InputError

__all__ = ["FeatureCache"]

LARGEST_BYTES = 2 * 2**30  # of all arrays in a folder


class FeatureCache:
    """A folder of .npy files, which are read as memory maps.

    A file is complete or absent. One process computes at a time; others wait, and read its result
    if they need the same array. Above `largest_bytes` the least recently used files are removed; a
    process that has mapped one can still read it.
    """

    def __init__(self, folder: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = folder
        self.largest_bytes = largest_bytes
        self._locked = False

    def get(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return an array from the cache, read-only, and compute it first if it is missing.

        Args:
            key: a file name, which must differ wherever the array differs.
            compute: called under the lock; it may call `get` for other arrays.

        Raises:
            InputError: the folder cannot be written.
        """
        path = self.folder / f"{key}.npy"
        found = _open(path)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                found = _open(path)  # another process may have computed it meanwhile
                if found is not None:
                    return found
                computed = compute()
                with write_whole(path, public=False) as file:
                    np.save(file, computed, allow_pickle=False)
                self._trim(keep=path)
                written = _open(path)
        except OSError as error:
            raise InputError(
                f"cannot write features to {self.folder}: {error.strerror or error}; free disk "
                "space or make the folder writable"
            ) from error
        assert (
            written is not None
        )  # it was opened under the lock, where no other process removes it
        return written

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock until the block or the process ends. Blocks may be nested."""
        if self._locked:
            yield
            return
        import fcntl  # of Unix: a bundle can be read without it

        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for leftover in self.folder.glob(
                ".*.npy.*"
            ):  # from a killed writer; no other process writes under this lock
                leftover.unlink(missing_ok=True)
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def _trim(self, keep: Path) -> None:
        """Remove the least recently used files above `largest_bytes`, except `keep`."""
        files = sorted(self.folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        size = sum(file.stat().st_size for file in files)
        for file in files:
            if size <= self.largest_bytes:
                return
            if file != keep:
                size -= file.stat().st_size
                file.unlink()


def _open(path: Path) -> NDArray[Any] | None:
    """Map an array and mark it as used now; None if the file is absent or damaged."""
    try:
        os.utime(path)
        # np.load would also accept archives and pickles.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return None
    return array
