"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["write_whole"]

PRIVATE, PUBLIC = 0o600, 0o644


@contextlib.contextmanager
def write_whole(target: Path, *, public: bool) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `target` in one step at the block's end.

    It lies beside `target` meanwhile, as .NAME.RANDOM, and is removed when the block fails.

    Args:
        public: whether others than its owner may read it.

    Raises:
        OSError: the disk is full, the place is not writable, ...; `target` is as it was.
    """
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
