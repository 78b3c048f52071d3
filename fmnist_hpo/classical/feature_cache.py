"""Arrays that are computed once and kept on disk, for all workers of a machine."""

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

LARGEST_BYTES = 2 * 2**30  # of all arrays together


class FeatureCache:
    """A folder of npy files, mapped into memory when they are read.

    A file is whole or absent. One process computes at a time; another that wants the same array
    waits for it and reads it. When the files grow beyond `largest_bytes` those that were used
    longest ago are removed; a process that has one mapped keeps it.
    """

    def __init__(self, folder: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = folder
        self.largest_bytes = largest_bytes
        self._locked = False

    def get(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of that key, read-only; computed when it is not there.

        Args:
            key: a file name; says everything that the array depends on.
            compute: may ask this cache for other arrays.

        Raises:
            InputError: the folder cannot be written, or the system has no file locks of Unix.
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
                f"cannot keep features in {self.folder}: {error.strerror or error}; make room or "
                "make it writable"
            ) from error
        assert written is not None  # under the lock nobody removes it
        return written

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock until the block, or the process, ends. It may be nested."""
        if self._locked:
            yield
            return
        try:
            import fcntl
        except ImportError:
            raise InputError(
                "classical models keep their features under a file lock of Unix, got a system "
                "without it; run them on Linux or macOS"
            ) from None
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for leftover in self.folder.glob(".*.npy.*"):  # of a killed writer; no other writes now
                leftover.unlink(missing_ok=True)
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def _trim(self, keep: Path) -> None:
        files = sorted(self.folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        size = sum(file.stat().st_size for file in files)
        for file in files:
            if size <= self.largest_bytes:
                return
            if file != keep:
                size -= file.stat().st_size
                file.unlink()


def _open(path: Path) -> NDArray[Any] | None:
    """None when the file is absent or damaged."""
    try:
        os.utime(path)  # it was used just now
        # np.load takes archives and pickles as well, and raises more than this for what is damaged
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return None
    return array
