"""What a worker and its launcher agree on: environment, exit codes, and how fast a worker leaves.

A worker's exit code says why it left, for engines that see nothing else. The code of the problem
can end the process with any exit code, so a launcher that can read a file also gives the worker a
path, to which only the worker writes (`leave_note`, `read_note`).
"""

import enum
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

__all__ = [
    "NAME_VARIABLE",
    "NOTE_VARIABLE",
    "PARENT_VARIABLE",
    "STOP_SECONDS",
    "STORAGE_VARIABLE",
    "SUPERVISED_VARIABLE",
    "Left",
    "is_named",
    "leave_note",
    "new_worker_name",
    "read_note",
    "worker_name",
]

#: A storage URL may hold a password, so it travels in the environment, not in the command line.
STORAGE_VARIABLE = "FMNIST_HPO_STORAGE"
#: The process whose death asks a worker to stop; set by a launcher for its own children.
PARENT_VARIABLE = "FMNIST_HPO_PARENT"
NAME_VARIABLE = "FMNIST_HPO_WORKER"
#: Set where a supervisor starts workers for the confirmation, so that these leave after the search.
SUPERVISED_VARIABLE = "FMNIST_HPO_SUPERVISED"
#: The path of the file in which a worker writes why it leaves.
NOTE_VARIABLE = "FMNIST_HPO_NOTE"

#: A worker that was asked to stop is gone after this long. `run` leaves within 10 s: these, two
#: more until SIGKILL, and a moment to release what the worker could not.
STOP_SECONDS = 7.0


class Left(enum.IntEnum):
    """Why a worker left of its own accord; the value is its exit code."""

    OVER = 0  # the study is over
    REFUSED = 2  # every other worker would refuse too: the study is halted, the data differ
    STORAGE = 74  # the database or a disk failed in a way that waiting does not mend
    ASKED = 75  # it was asked to leave, and released its trial


def new_worker_name() -> str:
    """A name that no other worker of any machine has; readable in `status`."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"


def worker_name() -> str:
    """The name of this worker: the one its launcher gave it, or a new one."""
    return os.environ.get(NAME_VARIABLE) or new_worker_name()


def is_named() -> bool:
    """Whether a launcher or an engine started this worker: it names each one."""
    return bool(os.environ.get(NAME_VARIABLE))


def leave_note(left: Left, line: str = "") -> None:
    """Write why this worker leaves, where its launcher asked for it; never raises."""
    path = os.environ.get(NOTE_VARIABLE)
    if path:
        with suppress(OSError):
            Path(path).write_text(f"{left.name}\n{line}\n", errors="backslashreplace")


def read_note(path: Path) -> tuple[Left, str] | None:
    """Why a worker left and its line; None when it wrote nothing, so something ended it."""
    try:
        name, _, line = path.read_text(errors="replace").partition("\n")
        return Left[name], line.strip()
    except (OSError, KeyError):
        return None
