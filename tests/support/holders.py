"""Which processes of this machine hold the leases of a study."""

import os
from pathlib import Path

from search.study import Study

__all__ = ["holders", "variable"]


def holders(study: Study) -> dict[str, int]:
    """Process ids of the workers that hold a lease, by the worker's name."""
    names = {row.worker for row in study.ledger.running()}
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            command = Path(entry.path, "cmdline").read_bytes()
        except OSError:
            continue
        if b"\0worker\0" in command and b"bash" not in command:
            name = variable(int(entry.name), "FMNIST_HPO_WORKER")
            if name in names:
                found[name] = int(entry.name)
    return found


def variable(pid: int, name: str) -> str | None:
    """A variable of a process's environment; None where it has none, or is gone."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    values = (item.partition(b"=") for item in variables)
    return next((value.decode() for key, _, value in values if key.decode() == name), None)
