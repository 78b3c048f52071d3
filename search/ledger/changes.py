"""The steps that the ledger's changes are made of: functions of a transaction and a `Scope`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search.errors import StorageError
from search.ledger.records import How, Lease
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.optuna_tables import trials
from search.storage.trial_rows import read_trials

__all__ = [
    "Superseded",
    "close",
    "count_decision",
    "end_elsewhere",
    "give_up",
    "lease_row",
    "lock_running",
    "lock_study",
    "row_of",
    "trial_of",
    "update",
]

_L = schema.lineage.c
_S = schema.study.c
_H = schema.attempt.c
_T = trials.c


class Superseded(Exception):
    """A decision was carried out, or the study amended, since this one was made: it is void."""


def lease_row(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    number: int,
    token: str,
    pause_at: int | None,
) -> None:
    """Lease a row and record the attempt."""
    update(
        session,
        row_of(scope, lease.lineage),
        attempt=lease.attempt,
        trial=number,
        worker=lease.worker,
        token=token,
        since=scope.now,
        heartbeat=scope.now,
        until=scope.now + scope.limits.timing.lease_seconds,
        paused=0,
        pause_at=pause_at,
    )
    session.execute(
        schema.attempt.insert().values(
            uid=scope.uid,
            lineage=lease.lineage,
            attempt=lease.attempt,
            trial=number,
            worker=lease.worker,
            began=scope.now,
        )
    )


def give_up(
    session: orm.Session, scope: Scope, lease: Lease, number: int, **values: Any
) -> int | None:
    """Free the row of a lease, with further values; the id of its RUNNING trial, locked, or None.

    The row is done where another program ended the trial.
    """
    if update(session, scope.held(lease), worker=None, until=None, **values) != 1:
        return None
    trial_id = lock_running(session, scope, number)
    if trial_id is None:
        end_elsewhere(session, scope, lease.lineage)
        close(session, scope, lease.lineage, lease.attempt, How.ELSEWHERE)
    return trial_id


def end_elsewhere(session: orm.Session, scope: Scope, lineage: int) -> None:
    """End a row whose trial another program ended: it counts."""
    values = {"done": 1, "ended": scope.now, "paused": 0, "worker": None, "until": None}
    update(session, row_of(scope, lineage), **values)


def count_decision(session: orm.Session, scope: Scope, number: int) -> None:
    """Take the number of a decision, which makes all others of that number void.

    The last statement of a transaction but for the contact: the study's row is locked last.

    Raises:
        Superseded: another decision has that number.
    """
    result: Any = session.execute(
        schema.study.update()
        .where(_S.uid == scope.uid, _S.decisions == number)
        .values(decisions=number + 1)
    )
    if result.rowcount != 1:
        raise Superseded


def row_of(scope: Scope, lineage: int) -> list[sa.ColumnElement[bool]]:
    """The condition of a lineage's row."""
    return [scope.mine, _L.lineage == lineage]


def update(session: orm.Session, where: Sequence[sa.ColumnElement[bool]], **values: Any) -> int:
    """Change rows of lineages; returns how many."""
    result: Any = session.execute(schema.lineage.update().where(*where).values(**values))
    return int(result.rowcount)


def close(session: orm.Session, scope: Scope, lineage: int, attempt: int, how: str) -> None:
    """Record how an attempt ended."""
    session.execute(
        schema.attempt.update()
        .where(_H.uid == scope.uid, _H.lineage == lineage, _H.attempt == attempt)
        .values(ended=scope.now, how=str(how))
    )


def lock_study(session: orm.Session, uid: str) -> None:
    """Wait for who changes what the study is, and let nobody until the transaction ends.

    Raises:
        StorageError: the study is there no longer.
    """
    if session.scalar(sa.select(_S.uid).where(_S.uid == uid).with_for_update()) is None:
        raise StorageError("the study was deleted meanwhile; create it again")


def trial_of(session: orm.Session, scope: Scope, number: int | None) -> FrozenTrial | None:
    """The trial of that number; None where there is none."""
    if number is None:
        return None
    found = read_trials(session.connection(), scope.study_id, number=number)
    return found[0] if found else None


def lock_running(session: orm.Session, scope: Scope, number: int) -> int | None:
    """Keep a RUNNING trial from changing until the commit; its id, None when it has ended."""
    trial_id: int | None = session.scalar(
        sa.select(_T.trial_id)
        .where(
            _T.study_id == scope.study_id,
            _T.number == number,
            _T.state == TrialState.RUNNING,
        )
        .with_for_update()
    )
    return trial_id
