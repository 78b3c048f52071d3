"""The changes of one study's rows: functions of a transaction and a `Scope`.

Each runs inside a transaction of the caller's. All take their locks in one order, so transactions
do not wait for each other in a circle: rows of lineages, the study, a trial, the row of contacts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.errors import StorageError
from search.ledger.attempt import Fresh, first_attempt, next_attempt
from search.ledger.records import Claim, How, Lease
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.optuna_tables import trial_user_attrs, trials
from search.storage.trial_rows import Writes, add_trial, finish_trial, read_trials

__all__ = [
    "claim",
    "claimed",
    "closed",
    "end",
    "ended_as",
    "lose_worker",
    "prolong",
    "reap",
    "release",
    "resume",
    "touch",
]

_L = schema.lineage.c
_S = schema.study.c
_H = schema.attempt.c
_T = trials.c
_U = trial_user_attrs.c


def touch(session: orm.Session, scope: Scope) -> None:
    """Leave a contact where one is due."""
    session.execute(scope.contact)


def prolong(session: orm.Session, scope: Scope, lease: Lease) -> bool:
    """A proof of life; False when the lease is no longer held."""
    until = scope.now + scope.limits.timing.lease_seconds
    return _update(session, scope.held(lease), heartbeat=scope.now, until=until) == 1


def claim(
    session: orm.Session,
    scope: Scope,
    worker: str,
    token: str,
    fresh: Callable[[int], Fresh],
    origin: Mapping[str, Any],
) -> Claim | None:
    """Lease a free row, and go on with its trial or create the next one."""
    while (row := session.execute(scope.next_free).one_or_none()) is not None:
        lease = Lease(uid=scope.uid, lineage=row.lineage, attempt=row.attempt + 1, worker=worker)
        trial = _trial_for(session, scope, lease, row.trial, fresh, origin)
        if trial is not None:
            _lease(session, scope, lease, trial.number, token)
            return Claim(lease=lease, trial=trial)
        # Another program ended the trial that was released: it counts.
        _update(session, _row(scope, row.lineage), done=1, ended=scope.now)
    return None


def _trial_for(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    number: int | None,
    fresh: Callable[[int], Fresh],
    origin: Mapping[str, Any],
) -> FrozenTrial | None:
    """The RUNNING trial of a new lease; None where another program ended the last one.

    A released trial goes on under the new lease. One that was lost, or whose error was mended, has
    ended, so another trial follows it.
    """
    mark = {attributes.LEASE: [lease.lineage, lease.attempt]}
    released = None if number is None else _lock_running(session, scope, number)
    if released is not None:
        writes = Writes(user_attrs=dict(origin), system_attrs=mark)
        writes.apply(session, scope.study_id, released, {})
        return _trial(session, scope, number)
    previous = _trial(session, scope, number)
    if previous is None:
        trial = first_attempt(fresh(lease.lineage))
    elif attributes.REASON in previous.user_attrs:
        trial = next_attempt(previous)
    else:
        return None
    trial.user_attrs |= {**origin, attributes.LINEAGE: lease.lineage}
    trial.system_attrs |= mark
    add_trial(session, scope.study_id, trial)
    return trial


def _lease(session: orm.Session, scope: Scope, lease: Lease, number: int, token: str) -> None:
    _update(
        session,
        _row(scope, lease.lineage),
        attempt=lease.attempt,
        trial=number,
        worker=lease.worker,
        token=token,
        since=scope.now,
        heartbeat=scope.now,
        until=scope.now + scope.limits.timing.lease_seconds,
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


def claimed(session: orm.Session, scope: Scope, worker: str, token: str) -> Claim | None:
    """The claim of that token, when it was committed and only the answer was lost."""
    row = session.execute(
        sa.select(schema.lineage).where(scope.mine, _L.token == token, _L.worker == worker)
    ).one_or_none()
    if row is None:
        return None
    trial = _trial(session, scope, row.trial)
    assert trial is not None, "a claim and its trial are one transaction"
    lease = Lease(uid=scope.uid, lineage=row.lineage, attempt=row.attempt, worker=worker)
    return Claim(lease=lease, trial=trial)


def end(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    number: int,
    state: TrialState,
    value: float | None,
    attrs: Mapping[str, Any],
    steps: Mapping[int, float],
) -> bool:
    """End a leased row and its trial; False when the lease is no longer held."""
    trial_id = _give_up(session, scope, lease, number, done=True)
    if trial_id is None:
        return False
    finish_trial(session, trial_id, state, value=value, user_attrs=attrs, steps=steps)
    _close(session, scope, lease.lineage, lease.attempt, ended_as(state, attrs))
    return True


def release(session: orm.Session, scope: Scope, lease: Lease, number: int, how: str) -> bool:
    """Free a leased row, whose trial stays RUNNING; False when the lease is no longer held."""
    if _give_up(session, scope, lease, number, done=False) is None:
        return False
    _close(session, scope, lease.lineage, lease.attempt, how)
    return True


def ended_as(state: TrialState, attrs: Mapping[str, Any]) -> str:
    """How an attempt ended that its worker ended: the reason, or the state where there is none."""
    return str(attrs.get(attributes.REASON, How[state.name]))


def closed(session: orm.Session, scope: Scope, lease: Lease, how: str) -> bool | None:
    """True when this attempt's end was committed and only the answer was lost, else None."""
    found = session.scalar(
        sa.select(_H.how).where(
            _H.uid == scope.uid, _H.lineage == lease.lineage, _H.attempt == lease.attempt
        )
    )
    return True if found == how else None


def _give_up(
    session: orm.Session, scope: Scope, lease: Lease, number: int, *, done: bool
) -> int | None:
    """Free or end the row of a lease; the id of its RUNNING trial, locked, or None."""
    freed: dict[str, Any] = {"worker": None, "until": None}
    if done:
        freed |= {"done": 1, "ended": scope.now}
    if _update(session, scope.held(lease), **freed) != 1:
        return None
    trial_id = _lock_running(session, scope, number)
    if trial_id is None:  # another program ended it: it counts
        _update(session, scope.attempt(lease), done=1, ended=scope.now)
        _close(session, scope, lease.lineage, lease.attempt, How.ELSEWHERE)
    return trial_id


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


def _lose(session: orm.Session, scope: Scope, row: sa.Row[Any], *, blame: bool) -> int | None:
    """Fail the trial of a leased row as lost and free the row, or end it after too many.

    Returns:
        The attempt that was one too many; None when another one follows.
    """
    here = _row(scope, row.lineage)
    free: dict[str, Any] = {"worker": None, "until": None}
    trial_id = _lock_running(session, scope, row.trial)
    if trial_id is None:  # another program ended it: it counts
        _update(session, here, **free, done=1, ended=scope.now)
        _close(session, scope, row.lineage, row.attempt, How.ELSEWHERE)
        return None
    lost = {attributes.REASON: Reason.LOST.value}
    finish_trial(session, trial_id, TrialState.FAIL, value=None, user_attrs=lost, steps={})
    _close(session, scope, row.lineage, row.attempt, Reason.LOST.value)
    lost_attempts = row.lost_attempts + blame
    over = lost_attempts > scope.limits.max_retries
    if over:
        free |= {"done": 1, "ended": scope.now}
    _update(session, here, **free, lost_attempts=lost_attempts)
    return int(row.attempt) if over else None


def resume(session: orm.Session, scope: Scope) -> int:
    """End a halt and free the lineages whose trial ended in the error that is its cause."""
    study = schema.study
    cause = session.scalar(sa.select(_S.halted).where(_S.uid == scope.uid).with_for_update())
    if cause is None:
        return 0
    session.execute(study.update().where(_S.uid == scope.uid).values(halted=None))
    failed = (
        sa.select(_T.number)
        .join(trial_user_attrs, _U.trial_id == _T.trial_id)
        .where(
            _T.study_id == scope.study_id,
            # An older version stored no place of an error; there the text was the cause.
            _U.key.in_((attributes.ERROR_AT, attributes.ERROR)),
            _U.value_json == json.dumps(cause),
        )
    )
    return _update(session, [scope.mine, _L.done == 1, _L.trial.in_(failed)], done=0, ended=None)


def _row(scope: Scope, lineage: int) -> list[sa.ColumnElement[bool]]:
    return [scope.mine, _L.lineage == lineage]


def _update(session: orm.Session, where: Sequence[sa.ColumnElement[bool]], **values: Any) -> int:
    result: Any = session.execute(schema.lineage.update().where(*where).values(**values))
    return int(result.rowcount)


def _close(session: orm.Session, scope: Scope, lineage: int, attempt: int, how: str) -> None:
    """Record how an attempt ended."""
    session.execute(
        schema.attempt.update()
        .where(_H.uid == scope.uid, _H.lineage == lineage, _H.attempt == attempt)
        .values(ended=scope.now, how=str(how))
    )


def _trial(session: orm.Session, scope: Scope, number: int | None) -> FrozenTrial | None:
    if number is None:
        return None
    found = read_trials(session.connection(), scope.study_id, number=number)
    return found[0] if found else None


def _lock_running(session: orm.Session, scope: Scope, number: int) -> int | None:
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
