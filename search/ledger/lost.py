"""Frees the lineages of workers that are dead or were cut off, and fails their trials as lost."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.errors import StorageError
from search.ledger.changes import close, end_elsewhere, lock_running, row_of, update
from search.ledger.records import How
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.trial_rows import finish_trial

__all__ = ["forgive", "lose_worker", "lost_workers", "reap"]

_L = schema.lineage.c
_H = schema.attempt.c


def reap(session: orm.Session, scope: Scope) -> dict[int, int | None]:
    """Lose the rows whose lease ran out while the database could be reached.

    Returns:
        For each lineage that lost its worker: its last attempt when it has ended, else None.

    Raises:
        StorageError: the study is there no longer.
    """
    if session.scalar(scope.there) is None:
        raise StorageError(
            "the study was deleted or renamed while it was worked on; "
            "create it again, or go on with it under its new name"
        )
    rows = session.execute(scope.overdue).all()
    return {row.lineage: _lose(session, scope, row, blame=True) for row in rows}


def lose_worker(
    session: orm.Session, scope: Scope, worker: str, *, blame: bool
) -> dict[int, int | None]:
    """Lose the rows of a worker that is known to be dead; see `reap`."""
    rows = session.execute(scope.leased(_L.worker == worker)).all()
    return {row.lineage: _lose(session, scope, row, blame=blame) for row in rows}


def forgive(session: orm.Session, scope: Scope, worker: str) -> int:
    """Take the losses of a worker from those that count, each once; returns how many there were.

    A row that has ended as lost stays so.
    """
    lost = [_H.uid == scope.uid, _H.worker == worker, _H.how == Reason.LOST.value]
    unfinished = [scope.mine, _L.done == 0, _L.lineage.in_(sa.select(_H.lineage).where(*lost))]
    rows = session.scalars(
        sa.select(_L.lineage).where(*unfinished).order_by(_L.lineage).with_for_update()
    ).all()
    forgiven = 0
    for lineage in rows:
        result: Any = session.execute(
            schema.attempt.update()
            .where(*lost, _H.lineage == lineage)
            .values(how=How.LOST_UNCOUNTED.value)
        )
        count = int(result.rowcount)
        fewer = sa.case((_L.lost_attempts > count, _L.lost_attempts - count), else_=0)
        update(session, row_of(scope, lineage), lost_attempts=fewer)
        forgiven += count
    return forgiven


def lost_workers(session: orm.Session, scope: Scope, names: Collection[str]) -> set[str]:
    """Those of the workers whose last attempt was lost."""
    rows = session.execute(
        sa.select(_H.worker, _H.how)
        .where(_H.uid == scope.uid, _H.worker.in_(names))
        .order_by(_H.began, _H.attempt)
    )
    last = {row.worker: row.how for row in rows}
    return {name for name, how in last.items() if how in (Reason.LOST.value, How.LOST_UNCOUNTED)}


def _lose(session: orm.Session, scope: Scope, row: sa.Row[Any], *, blame: bool) -> int | None:
    """Fail the trial of a leased row as lost and free the row, or end it after too many.

    Returns:
        The attempt that was one too many; None when another one follows.
    """
    free: dict[str, Any] = {"worker": None, "until": None}
    trial_id = lock_running(session, scope, row.trial)
    if trial_id is None:
        end_elsewhere(session, scope, row.lineage)
        close(session, scope, row.lineage, row.attempt, How.ELSEWHERE)
        return None
    lost = {attributes.REASON: Reason.LOST.value}
    finish_trial(session, trial_id, TrialState.FAIL, value=None, user_attrs=lost, steps={})
    how = Reason.LOST.value if blame else How.LOST_UNCOUNTED.value
    close(session, scope, row.lineage, row.attempt, how)
    lost_attempts = row.lost_attempts + blame
    over = lost_attempts > scope.limits.max_retries
    if over:
        free |= {"done": 1, "ended": scope.now}
    update(session, row_of(scope, row.lineage), **free, lost_attempts=lost_attempts)
    return int(row.attempt) if over else None
