"""A connection that is lost in a commit, before it went through or after."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from search.storage import Storage


@contextmanager
def lost_in_commit(storage: Storage, *, committed: bool = True) -> Iterator[None]:
    """Make the next commit inside fail; `committed`: though it went through."""
    done = threading.Event()

    def on_commit(connection: sa.Connection) -> None:
        if done.is_set():
            return
        done.set()
        if committed:
            connection.connection.commit()
        raise sa.exc.OperationalError("COMMIT", None, psycopg.OperationalError("connection lost"))

    sa.event.listen(storage.engine, "commit", on_commit)
    try:
        yield
    finally:
        sa.event.remove(storage.engine, "commit", on_commit)
    assert done.is_set()
