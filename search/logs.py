"""Log records as lines on an output that never makes its command fail.

A long-running command must not fail because nobody reads what it prints, or because the disk that
holds its log is full.
"""

import ctypes
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from search.errors import SearchError

__all__ = ["PACKAGES", "checked_output", "printed_apart", "protect_output", "show_records"]

#: The top-level packages whose records of level INFO are shown.
PACKAGES = ("search", "fmnist_hpo")
#: A line of a worker's log: when (UTC), how serious, what.
STAMPED = "%(asctime)s %(levelname)s %(message)s"


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor and drops what cannot be written."""

    def __init__(self, descriptor: int, on_closed: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_closed = on_closed

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            self._on_closed()
        except OSError:  # the disk is full, or the problem's code closed the descriptor
            pass
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


class _Checked(_Descriptor):
    """Writes to a file descriptor, and raises once where that fails; then it drops all."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, lambda: None)
        self._failed = False

    def write(self, data: Any, /) -> int:
        if self._failed:
            return len(data)
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise SearchError(
                f"cannot write to the standard output: {error.strerror}; a part of it is missing, "
                "so look what the command did before you run it again"
            ) from error


@contextmanager
def checked_output() -> Iterator[None]:
    """Let a failed write to the standard output raise `SearchError`, a closed pipe its own error.

    What is still to be written is written at the end. Where the process was started without a
    standard output or error, what is printed is dropped.
    """
    for descriptor in range(3):  # else the next file that is opened would take its place
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    before = sys.stdout
    try:
        descriptor = before.fileno()
    except (AttributeError, ValueError, OSError):  # it belongs to no file, as in a notebook
        yield
        return
    before.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Checked(descriptor)),
        encoding=before.encoding,
        errors="backslashreplace",  # a terminal or pipe may not take every character
        line_buffering=before.isatty(),
    )
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout = before


@contextmanager
def printed_apart() -> Iterator[TextIO]:
    """Send what is printed inside to the standard error: by Python, C code or child processes.

    It keeps the standard output free for an answer that a program reads.

    Yields:
        A stream to the standard output, open until the end.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr), open(kept, "w", encoding="utf-8", closefd=False) as out:
            yield out
    finally:
        ctypes.CDLL(None).fflush(None)  # C code may print into a buffer of its own
        os.dup2(kept, 1)
        os.close(kept)


def protect_output(on_closed: Callable[[], None] = lambda: None) -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams whose writes never raise an `OSError`.

    Streams that belong to no file descriptor, as in a notebook, stay as they are.

    Args:
        on_closed: called when the reader of a pipe has gone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            stream.flush()
            descriptor = stream.fileno()
        except (AttributeError, ValueError, OSError):
            continue
        protected = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(descriptor, on_closed)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, protected)


class _Lines(logging.Handler):
    """Passes each record to a function as text; a record that cannot be shown is dropped."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._show(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def show_records(
    show: Callable[[str], None], *, level: int = logging.INFO, stamped: bool = False
) -> None:
    """Show log records by `show`, one call per record; a call again replaces the function.

    Args:
        level: the lowest level shown of this project's records; of others, WARNING.
        stamped: whether time and level are shown.
    """
    handler = _Lines(show)
    formatter = logging.Formatter(STAMPED if stamped else "%(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one, _Lines)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
