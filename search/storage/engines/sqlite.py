"""SQLite files: how they are opened, and whether a file is still the one that was opened."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from search.errors import StorageError
from search.storage.engines.failure import remedy
from search.text import shorten

__all__ = ["File", "engine_kwargs"]

OPTIONS = ("timeout", "uri")  # of a URL
#: Options of a URL: what their values match, as SQLAlchemy reads them, and what they are.
RULES = {
    "timeout": (r"[0-9]+(\.[0-9]+)?", "a number of seconds"),
    "uri": (r"(?i:true|yes|on|y|t|1|false|no|off|n|f|0)", "true or false"),
}
RULES_OF_SQLITE = {
    "mode": (r"ro|rw|rwc", "ro, rw or rwc"),
    "cache": (r"shared|private", "shared or private"),
}
LOCK_WAIT_MS = 30_000  # SQLite waits this long for a lock before it reports one
OWNER_ALONE = 0o600
MOST_SHOWN = 200  # characters of a path in a message


def check_options(url: sa.URL) -> None:
    """Refuse an option of a URL that nothing reads, as it is misspelt, or that has a wrong value.

    Raises:
        StorageError: the message names the option.
    """
    of_sqlite = "uri" in url.query  # SQLite reads further ones
    unknown = url.query.keys() - OPTIONS
    if unknown and not of_sqlite:
        raise StorageError(
            f"an SQLite URL has no option {min(unknown)!r}; it takes {', '.join(OPTIONS)}"
        )
    rules = {**RULES, **(RULES_OF_SQLITE if of_sqlite else {})}
    for name, value in url.query.items():
        if not isinstance(value, str):
            raise StorageError(
                f"an SQLite URL has each option once, got {name} {len(value)} times; leave one"
            )
        pattern, need = rules.get(name, ("", ""))
        if not re.fullmatch(pattern or ".*", value, re.DOTALL):
            raise StorageError(
                f"the option {name} of an SQLite URL is {need}, got {shorten(value, 60)!r}; "
                "correct it, or leave it out"
            )


class File:
    """The file of a URL.

    Args:
        url: of SQLite; one that starts with `file:` is SQLite's own to read, with its options.
    """

    def __init__(self, url: sa.URL) -> None:
        name = str(url.database)
        self.path = None if name.startswith("file:") else Path(name)
        self._opened: tuple[int, int] | None = None  # device and inode

    def is_missing(self) -> bool:
        """Whether it does not exist.

        Raises:
            StorageError: nobody can tell: its name is too long, or its directory is closed to us.
        """
        if self.path is None:
            return False
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:
            raise StorageError(
                f"cannot open {shorten(str(self.path), MOST_SHOWN)}: {error.strerror}; check the "
                "permissions on it and on its directory, or give another file"
            ) from error
        return False

    def prepare(self) -> None:
        """Create the file and its directory where they are missing.

        A new file can be read by its owner alone: parameters and errors of the problem are in it.
        SQLite gives its companions (-wal, -shm) the same permissions.

        Raises:
            StorageError: it is a directory, no database, or cannot be created or opened.
            sqlite3.OperationalError: somebody else has it locked.
        """
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot create the directory of {shorten(str(self.path), MOST_SHOWN)}: "
                f"{error.strerror}; give another file"
            ) from error
        missing = self.is_missing()
        if self.path.is_dir():
            raise StorageError(
                f"cannot open {self.path}: it is a directory; name a file in it, such as "
                f"sqlite:///{self.path / 'study.db'}"
            )
        if not missing and not self.path.is_file():
            raise StorageError(f"cannot open {self.path}: it is no regular file; give another")
        if missing:
            with contextlib.suppress(OSError):  # another process was first, or SQLite will say why
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                os.close(os.open(self.path.resolve(), flags, OWNER_ALONE))
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=LOCK_WAIT_MS / 1000)
            ) as connection:
                # Kept in the file: readers never wait for the writer, nor the writer for readers.
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.DatabaseError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_NOTADB"):
                raise StorageError(
                    f"{self.path} is not an SQLite database; give another file"
                ) from error
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise
            raise StorageError(f"cannot open {self.path}: {error}; {remedy(error)}") from error

    def listen(self, engine: sa.Engine, is_writing: Callable[[], bool]) -> None:
        """From now on, connect to this very file and set what our transactions need."""
        self._opened = self._present()

        @sa.event.listens_for(engine, "do_connect")
        def before_connect(*_: Any) -> None:
            self._check()  # else SQLite would create an empty file in its place

        @sa.event.listens_for(engine, "checkout")
        def on_checkout(*_: Any) -> None:
            self._check()

        @sa.event.listens_for(engine, "connect")
        def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
            connection.isolation_level = None  # we begin transactions ourselves, below
            connection.execute("PRAGMA synchronous=NORMAL")  # with WAL: safe if a process is killed

        @sa.event.listens_for(engine, "begin")
        def on_begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing() else "BEGIN")

    def is_there(self) -> bool:
        """Whether the file at the path is the one that was opened."""
        return self._present() == self._opened

    def check_whole(self) -> None:
        """Read the whole file.

        Raises:
            StorageError: it is damaged, as after a part of it was overwritten while it was open.
        """
        if self.path is None:
            return
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=LOCK_WAIT_MS / 1000)
            ) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError:  # locked, or the disk does not answer
            return
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise StorageError(
                f"the database file {self.path} is damaged ({found.splitlines()[-1]}); restore it "
                "from a copy, and run the same command again"
            )

    def _present(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a disk that does not answer says nothing about the file
            return self._opened
        return status.st_dev, status.st_ino

    def _check(self) -> None:
        """Raise StorageError for a file that was deleted or replaced.

        The connections that are open would go on with one that nobody finds any more.
        """
        if not self.is_there():
            raise StorageError(
                f"the database file {self.path} was deleted or replaced while it was in use; "
                "restore it if need be, and run the same command again"
            )


def engine_kwargs(connections: int, lock_wait_ms: int) -> dict[str, Any]:
    """Arguments of `sqlalchemy.create_engine`."""
    return {
        "pool_size": connections,
        "max_overflow": 0,
        "poolclass": sa.pool.QueuePool,
        "connect_args": {"timeout": lock_wait_ms / 1000},
    }
