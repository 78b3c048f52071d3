"""What a command that runs has done so far, as its database and /proc show it."""

import sqlite3
import time
from pathlib import Path

__all__ = ["children", "leases", "query", "reports", "states", "wait_for"]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def query(command, statement: str) -> list:
    path = command.directory / "runs" / "studies.db"
    if not path.exists():
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return database.execute(statement).fetchall()
    except sqlite3.OperationalError:  # the tables are not there yet
        return []
    finally:
        database.close()


def reports(command) -> int:
    rows = query(command, "select count(*) from trial_intermediate_values")
    return rows[0][0] if rows else 0


def states(command) -> dict[str, int]:
    return dict(query(command, "select state, count(*) from trials group by state"))


def leases(command) -> int:
    ((count,),) = query(command, "select count(*) from search_lineage where worker is not null")
    return count


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
