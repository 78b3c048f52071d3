"""Writes files and folders whole or not at all."""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

__all__ = ["alone", "write_folder", "write_whole"]

AT_FDCWD = -100  # Linux <fcntl.h>: paths are relative to the working directory
RENAME_EXCHANGE = 2  # Linux <linux/fs.h>: both paths exist and change places in one step
NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}  # file systems without it, such as NFS
PRIVATE, PUBLIC = 0o600, 0o644


@contextlib.contextmanager
def write_whole(target: Path, *, public: bool) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `target` in one step at the end of the block.

    Until then it lies beside `target` as .NAME.RANDOM. It is removed when the block fails. A device
    or a pipe is not replaced but written to.

    Args:
        public: whether others than its owner may read it.

    Raises:
        OSError: the disk is full, the place is not writable, ...; `target` is as it was.
    """
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    target = target.resolve()  # where it is a link, what that leads to is replaced
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(PUBLIC if public else PRIVATE)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_folder(
    target: Path, files: Mapping[str, bytes], *, keep: Callable[[], Iterable[str]] = tuple
) -> None:
    """Make `target` a folder of these files, names relative to it and with "/".

    The files are written and synced in a temporary folder beside `target`, which then replaces
    `target` in one step. On file systems that cannot exchange two folders (NFS) the replacement is
    two renames, and `target` is absent between them. At the end the temporary folders of writers
    that were killed are removed.

    Args:
        keep: returns the files of the folder that is replaced which the new one has too. It is
            called while no other process writes there, and may raise: `target` is as it was then.

    Raises:
        OSError: the disk is full, the place is not writable, ...; `target` is as it was.
    """
    target = target.resolve()  # where it is a link, what that leads to is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.unfinished-"
    with alone(target.parent) as locked:
        kept = list(keep())
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            _fill(staging, files)
            for name in kept:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(target / name, staging / name, follow_symlinks=False)
            _put_in_place(staging, target)
        finally:
            # holds what was replaced, or what could not be finished; gone when `target` was new
            shutil.rmtree(staging, ignore_errors=True)
        if locked:  # not before: what lies there may be all that is left of `target`
            for left in target.parent.iterdir():
                if left.name.startswith(prefix):
                    shutil.rmtree(left, ignore_errors=True)
    _sync_folder(target.parent)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Wait until no other process writes below `folder`, and keep others out for the block.

    The lock ends with its process, however that ends. Yields False on file systems without locks.
    """
    import fcntl  # of Unix: a bundle can be read without it

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # NFS locks files only
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.chmod(0o755)  # mkdtemp's folders are private; a bundle is as public as its parent
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            _sync_folder(path)


def _put_in_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    elif not _exchange(staging, target):
        aside = staging.with_name(staging.name + ".old")
        target.rename(aside)
        try:
            staging.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.rename(staging)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(second))
    return False


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
