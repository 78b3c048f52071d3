"""What an error of the database means, for every code that there is."""

import sqlite3

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from optuna.exceptions import StorageInternalError

from search.errors import StorageError
from search.storage import Retry
from search.storage.engines.failure import Failure, failure_of


def of_postgres(state: str | None, kind: type[psycopg.Error] = psycopg.OperationalError):
    error = kind("a text")
    error.sqlstate = state
    wrapped = sa.exc.DBAPIError.instance("SELECT 1", None, error, psycopg.Error)
    assert isinstance(wrapped, sa.exc.DBAPIError)
    return wrapped


def of_sqlite(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError):
    error = kind("a text")
    error.sqlite_errorname = name
    return sa.exc.DBAPIError.instance("SELECT 1", None, error, sqlite3.Error)


@pytest.mark.parametrize(
    "state",
    [
        "08006", "08P01", "53100", "53300", "57P01", "57P03", "57P05", "25006", "58030", "58P01",
        "55000", "28000", "28P01", "XX000", "0A000", "F0001", "HV000", "ZZZZZ",
    ],
)  # fmt: skip
def test_what_a_server_recovers_from_is_away(state: str) -> None:
    assert failure_of(of_postgres(state)) is Failure.AWAY


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014", "25P03", "25P04", "26000"])
def test_what_passes_by_itself_is_busy(state: str) -> None:
    assert failure_of(of_postgres(state)) is Failure.BUSY


@pytest.mark.parametrize("state", ["42501", "42P01", "42703", "XX001", "XX002", "3F000"])
def test_what_stays_is_refused(state: str) -> None:
    assert failure_of(of_postgres(state)) is Failure.REFUSED


@pytest.mark.slow
@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5))
def test_every_state_is_waited_for_or_one_line_or_the_callers_own(state: str) -> None:
    failure = failure_of(of_postgres(state))
    if failure is Failure.CALL:
        assert state[:2] in {"21", "22", "23", "54"}
        return
    assert_waits_or_one_line(of_postgres(state), refused=failure is Failure.REFUSED)


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_IOERR", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMOPEN",
        "SQLITE_CANTOPEN", "SQLITE_CANTOPEN_FULLPATH", "SQLITE_NOMEM", "SQLITE_FULL",
        "SQLITE_NOLFS", "SQLITE_SOMETHING_NEW",
    ],
)  # fmt: skip
def test_what_a_disk_recovers_from_is_away(name: str) -> None:
    assert failure_of(of_sqlite(name)) is Failure.AWAY
    assert_waits_or_one_line(of_sqlite(name), refused=False)


@pytest.mark.parametrize(
    "name", ["SQLITE_CORRUPT_VTAB", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_ERROR", "SQLITE_AUTH"]
)
def test_what_a_file_stays_with_is_refused(name: str) -> None:
    assert_waits_or_one_line(of_sqlite(name), refused=True)


@pytest.mark.parametrize(
    "error",
    [
        of_postgres(None),  # libpq had no answer of a server
        of_postgres(None, psycopg.InterfaceError),
        sa.exc.PendingRollbackError("a text"),
        sa.exc.ResourceClosedError("a text"),
        sa.exc.TimeoutError("no connection of the pool"),
    ],
)
def test_lost_connections_are_waited_for(error: Exception) -> None:
    assert_waits_or_one_line(error, refused=False)


def test_optuna_s_own_wrapping_is_looked_through() -> None:
    error = StorageInternalError("a text")
    error.__cause__ = of_postgres("57014")
    assert failure_of(error) is Failure.BUSY


def test_a_disk_that_becomes_read_only_is_waited_for() -> None:
    retry = Retry()
    read_only = of_sqlite("SQLITE_READONLY")
    assert_waits_or_one_line(read_only, refused=True, retry=retry)
    retry.call(lambda repeated: None, lambda: None, writes=True)
    assert_waits_or_one_line(read_only, refused=False, retry=retry)


def assert_waits_or_one_line(
    error: Exception, *, refused: bool, retry: Retry | None = None
) -> None:
    def attempt(repeated: bool) -> str:
        if not repeated:
            raise error
        return "done"

    call = (retry or Retry()).call
    if not refused:
        assert call(attempt, lambda: None) == "done"
        return
    with pytest.raises(StorageError) as caught:
        call(attempt, lambda: None)
    assert "\n" not in str(caught.value)
