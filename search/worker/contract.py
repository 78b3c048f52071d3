"""What a worker and whoever starts it agree on: environment variables, and how fast it leaves."""

import os
import socket
import uuid

__all__ = [
    "NAME_VARIABLE",
    "PARENT_VARIABLE",
    "STOP_SECONDS",
    "STORAGE_VARIABLE",
    "new_worker_name",
    "worker_name",
]

#: A storage URL may hold a password, so it travels in the environment, not in the command line.
STORAGE_VARIABLE = "FMNIST_HPO_STORAGE"
#: The process whose death asks a worker to stop; set by a launcher for its own children.
PARENT_VARIABLE = "FMNIST_HPO_PARENT"
NAME_VARIABLE = "FMNIST_HPO_WORKER"

STOP_SECONDS = 10.0  # a worker that was asked to stop is gone after this long


def new_worker_name() -> str:
    """A name that no other worker of any machine has; readable in `status`."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"


def worker_name() -> str:
    """The name of this worker: the one its launcher gave it, or a new one."""
    return os.environ.get(NAME_VARIABLE) or new_worker_name()
