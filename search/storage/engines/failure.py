"""What an error of the database means: wait, give up, or blame the call.

The judgement starts from "wait": once a database has been open, whatever a server or a disk can
recover from is waited for, and an error that nobody has thought of is too. Only what stays as it is
until somebody acts ends the waiting, and only an error of the values that were passed is the
caller's own.
"""

import re
import sqlite3
from enum import Enum
from typing import Any

import optuna
from sqlalchemy import exc

__all__ = [
    "Failure",
    "driver_error",
    "failure_of",
    "first_line",
    "is_read_only",
    "refusal",
    "remedy",
]


class Failure(Enum):
    """What to do about an error."""

    AWAY = "away"  # no database that answers or can write: wait, and log it at once
    BUSY = "busy"  # somebody else was first, or a time ran out: wait, and log it when it lasts
    MISSING = "missing"  # the database is not there: wait as long as a restore may take
    REFUSED = "refused"  # rights, corruption, missing tables: stays so until somebody acts
    CALL = "call"  # the values passed are wrong: the caller's own error


#: Judgements by the beginning of the SQLSTATE; the longest match counts. PostgreSQL's manual,
#: appendix A, lists the codes. What is not listed is AWAY.
_SQLSTATES = {
    "21": Failure.CALL,  # cardinality violation
    "22": Failure.CALL,  # data exception
    "23": Failure.CALL,  # integrity constraint violation
    "54": Failure.CALL,  # program limit exceeded: a value too large, a statement too complex
    "25P02": Failure.BUSY,  # in a failed transaction
    "25P03": Failure.BUSY,  # idle-in-transaction timeout
    "25P04": Failure.BUSY,  # transaction timeout
    "26": Failure.BUSY,  # a prepared statement of another server connection
    "40": Failure.BUSY,  # serialization failure, deadlock
    "55006": Failure.BUSY,  # object in use
    "55P03": Failure.BUSY,  # lock not available, lock timeout
    "57014": Failure.BUSY,  # statement timeout, cancelled by an administrator
    "72": Failure.BUSY,  # snapshot too old
    "3D": Failure.MISSING,  # no such database
    "3F": Failure.REFUSED,  # no such schema
    "0P": Failure.REFUSED,  # no such role
    "42": Failure.REFUSED,  # rights (42501), or tables that are missing or of another version
    "44": Failure.REFUSED,  # a view with a check option
    "P0": Failure.REFUSED,  # raised by a trigger
    "XX001": Failure.REFUSED,  # data corrupted
    "XX002": Failure.REFUSED,  # index corrupted
}

#: The same for SQLite's result codes, by their beginnings; sqlite.org/rescode.html lists them.
_SQLITE = {
    "SQLITE_BUSY": Failure.BUSY,
    "SQLITE_LOCKED": Failure.BUSY,
    "SQLITE_PROTOCOL": Failure.BUSY,  # a race for a lock
    "SQLITE_SCHEMA": Failure.BUSY,
    "SQLITE_INTERRUPT": Failure.BUSY,
    "SQLITE_ERROR": Failure.REFUSED,  # no such table or column
    "SQLITE_PERM": Failure.REFUSED,
    "SQLITE_AUTH": Failure.REFUSED,
    "SQLITE_READONLY": Failure.REFUSED,
    "SQLITE_CORRUPT": Failure.REFUSED,
    "SQLITE_NOTADB": Failure.REFUSED,
    "SQLITE_FORMAT": Failure.REFUSED,
    "SQLITE_CONSTRAINT": Failure.CALL,
    "SQLITE_MISMATCH": Failure.CALL,
    "SQLITE_MISUSE": Failure.CALL,
    "SQLITE_RANGE": Failure.CALL,
    "SQLITE_TOOBIG": Failure.CALL,
}


#: libpq passes on no SQLSTATE of a connection that the server refuses, only its message.
_OPTION = re.compile(
    r"invalid (\w+ )+value|invalid value for|bad value for|invalid \S+ value|invalid port|"
    r"unrecognized configuration parameter|private key file|root certificate file"
)
_NO_DATABASE = re.compile(r'FATAL:\s+database ".*" does not exist')


def failure_of(error: BaseException) -> Failure:
    """Judge an error that a call of the database raised."""
    cause = _cause(error)
    if isinstance(cause, exc.TimeoutError):  # no connection of the pool became free
        return Failure.BUSY
    if isinstance(
        cause, exc.DisconnectionError | exc.PendingRollbackError | exc.ResourceClosedError
    ):
        return Failure.AWAY
    if not isinstance(cause, exc.DBAPIError):
        return Failure.CALL
    driver = cause.orig
    if (name := getattr(driver, "sqlite_errorname", None)) is not None:
        return _longest_match(_SQLITE, name)
    if (state := getattr(driver, "sqlstate", None)) is not None:
        return _longest_match(_SQLSTATES, state)
    if isinstance(driver, sqlite3.Error):  # Python's sqlite3 refuses the values
        return Failure.CALL
    if _NO_DATABASE.search(str(driver)):
        return Failure.MISSING
    # libpq failed before the server could answer, or while it did
    lost = isinstance(cause, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    return Failure.AWAY if lost or cause.connection_invalidated else Failure.CALL


def is_read_only(error: BaseException) -> bool:
    """Whether a database takes no writes.

    An SQLite file does so for want of rights, or on a disk that is mounted read-only; PostgreSQL as
    a standby, or where `default_transaction_read_only` is on.
    """
    driver = driver_error(error)
    name = getattr(driver, "sqlite_errorname", "")
    return str(name).startswith("SQLITE_READONLY") or getattr(driver, "sqlstate", "") == "25006"


def _longest_match(table: dict[str, Failure], code: str) -> Failure:
    found = [prefix for prefix in table if code.startswith(prefix)]
    return table[max(found, key=len)] if found else Failure.AWAY


def _cause(error: BaseException) -> BaseException | None:
    """SQLAlchemy's error, which Optuna wraps in one of its own."""
    wrapped = isinstance(error, optuna.exceptions.StorageInternalError)
    return error.__cause__ if wrapped else error


def driver_error(error: BaseException) -> Any:
    """The driver's own exception; None when there is none."""
    cause = _cause(error)
    return cause.orig if isinstance(cause, exc.DBAPIError) else None


def remedy(error: BaseException) -> str:
    """What to do about a database that could not be opened because of this error."""
    driver = error if isinstance(error, sqlite3.Error) else driver_error(error)
    name = str(getattr(driver, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return "make room on its disk, or give another file"
    if name:
        return "check the permissions on it and on its directory, or give another file"
    if _OPTION.search(first_line(error)):
        return "correct that option of the URL, or leave it out"
    if is_read_only(error):
        return refusal(error)
    if failure_of(error) is Failure.REFUSED:
        return "the server answers, so check what this user may do there, and the database's name"
    return "is it running, and the URL right?"


def refusal(error: BaseException) -> str:
    """What to do about a statement that an open database refuses."""
    if is_read_only(error) and getattr(driver_error(error), "sqlstate", None):
        return (
            "it is a standby, or default_transaction_read_only is on: give the address of one that "
            "takes writes, or switch that off"
        )
    return "check that the database is whole, and the permissions on it and its files"


def first_line(error: BaseException) -> str:
    """The driver's first line: SQLAlchemy's own text also holds the statement."""
    text = str(driver_error(error) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
