"""The changes of one study's rows: functions of a transaction and a `Scope`.

Each runs inside a transaction of the caller's. They take their locks in one order, so transactions
do not wait for each other in a circle: rows of lineages that are not done, a trial, the study, rows
that are done.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search import attributes
from search.ledger import look
from search.ledger.attempt import Fresh, first_attempt, next_attempt
from search.ledger.changes import (
    Superseded,
    close,
    count_decision,
    end_elsewhere,
    give_up,
    lease_row,
    lock_running,
    lock_study,
    trial_of,
    update,
)
from search.ledger.records import Claim, How, Lease, RuleEnd
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.optuna_tables import trial_user_attrs, trials
from search.storage.trial_rows import MOST_CHARACTERS, Writes, add_trial, finish_trial
from search.text import shorten

__all__ = [
    "claim",
    "claimed",
    "closed",
    "end",
    "end_by",
    "end_early",
    "ended_as",
    "forget_early_end",
    "halt",
    "prolong",
    "release",
    "resume",
    "touch",
]

#: The rules of `end_early`.
EARLY = ("hours", "steps", "trials")
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
    return update(session, scope.held(lease), heartbeat=scope.now, until=until) == 1


def claim(
    session: orm.Session,
    scope: Scope,
    worker: str,
    token: str,
    fresh: Callable[[int], Fresh | None],
    origin: Mapping[str, Any],
) -> Claim | None:
    """Lease a free row, and go on with its trial or create the next one.

    Raises:
        Superseded: what is to begin was decided before another decision, or before an amendment.
    """
    while (row := session.execute(scope.next_free).one_or_none()) is not None:
        first = None
        if row.trial is None:
            first = fresh(row.lineage)
            if first is None:
                break
            if first.amendment not in (None, look.amendment(session, scope)):
                raise Superseded
        lease = Lease(uid=scope.uid, lineage=row.lineage, attempt=row.attempt + 1, worker=worker)
        trial = _trial_for(session, scope, lease, row.trial, first, origin)
        if trial is None:
            end_elsewhere(session, scope, row.lineage)
            continue
        pause_at = row.pause_at if first is None else first.pause_at
        lease_row(session, scope, lease, trial.number, token, pause_at)
        if first is not None and first.decision is not None:
            count_decision(session, scope, first.decision)
        return Claim(lease=lease, trial=trial, pause_at=pause_at)
    return None


def _trial_for(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    number: int | None,
    first: Fresh | None,
    origin: Mapping[str, Any],
) -> FrozenTrial | None:
    """The RUNNING trial of a new lease; None where another program ended the last one.

    A released trial goes on under the new lease. One that was lost, or whose error was mended, has
    ended, so another trial follows it.
    """
    mark = {attributes.LEASE: [lease.lineage, lease.attempt]}
    released = None if number is None else lock_running(session, scope, number)
    if released is not None:
        writes = Writes(user_attrs=dict(origin), system_attrs=mark)
        writes.apply(session, scope.study_id, released, {})
        return trial_of(session, scope, number)
    previous = trial_of(session, scope, number)
    if previous is None:
        trial = first_attempt(first or Fresh())
    elif attributes.REASON in previous.user_attrs:
        trial = next_attempt(previous)
    else:
        return None
    trial.user_attrs |= {**origin, attributes.LINEAGE: lease.lineage}
    trial.system_attrs |= mark
    add_trial(session, scope.study_id, trial)
    return trial


def claimed(session: orm.Session, scope: Scope, worker: str, token: str) -> Claim | None:
    """The claim of that token, when it was committed and only the answer was lost."""
    row = session.execute(
        sa.select(schema.lineage).where(scope.mine, _L.token == token, _L.worker == worker)
    ).one_or_none()
    if row is None:
        return None
    trial = trial_of(session, scope, row.trial)
    assert trial is not None, "a claim and its trial are one transaction"
    lease = Lease(uid=scope.uid, lineage=row.lineage, attempt=row.attempt, worker=worker)
    return Claim(lease=lease, trial=trial, pause_at=row.pause_at)


def end(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    number: int,
    state: TrialState,
    value: float | Sequence[float] | None,
    attrs: Mapping[str, Any],
    steps: Mapping[int, float],
) -> bool:
    """End a leased row and its trial; False when the lease is no longer held."""
    trial_id = give_up(session, scope, lease, number, done=1, ended=scope.now)
    if trial_id is None:
        return False
    finish_trial(session, trial_id, state, value=value, user_attrs=attrs, steps=steps)
    close(session, scope, lease.lineage, lease.attempt, ended_as(state, attrs))
    return True


def release(
    session: orm.Session, scope: Scope, lease: Lease, number: int, how: str, *, paused: bool
) -> bool:
    """Free or pause a leased row, whose trial stays RUNNING; False without the lease."""
    if give_up(session, scope, lease, number, paused=int(paused)) is None:
        return False
    close(session, scope, lease.lineage, lease.attempt, how)
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


def halt(session: orm.Session, scope: Scope, cause: str) -> None:
    """Let no further trial start; the first cause is kept."""
    session.execute(
        schema.study.update()
        .where(_S.uid == scope.uid, _S.halted.is_(None))
        .values(halted=shorten(cause, MOST_CHARACTERS))
    )


def resume(session: orm.Session, scope: Scope) -> int:
    """End a halt and free the lineages whose trial ended in the error that is its cause.

    What diverged or ran out of memory with the same words is not repeated.
    """
    study = schema.study
    cause = session.scalar(sa.select(_S.halted).where(_S.uid == scope.uid).with_for_update())
    if cause is None:
        return 0
    session.execute(study.update().where(_S.uid == scope.uid).values(halted=None))
    forget_early_end(session, scope)
    by_error = sa.select(_U.trial_id).where(
        _U.key == attributes.REASON, _U.value_json == json.dumps(attributes.Reason.ERROR.value)
    )
    failed = (
        sa.select(_T.number)
        .join(trial_user_attrs, _U.trial_id == _T.trial_id)
        .where(
            _T.study_id == scope.study_id,
            _T.trial_id.in_(by_error),
            # An older version stored no place of an error; there the text was the cause.
            _U.key.in_((attributes.ERROR_AT, attributes.ERROR)),
            _U.value_json == json.dumps(cause),
        )
    )
    return update(session, [scope.mine, _L.done == 1, _L.trial.in_(failed)], done=0, ended=None)


def end_by(
    session: orm.Session, scope: Scope, rule: str, trial: int, text: str, *, amendment: int
) -> RuleEnd | None:
    """Record the stop rule that ends the study: no lineage begins any more.

    Args:
        rule, trial, text: see `RuleEnd`.
        amendment: the number of the last one when the rule was found to hold.

    Returns:
        What is recorded, which may be what another process found before; None where the study was
        amended since.
    """
    lock_study(session, scope.uid)
    if look.amendment(session, scope) == amendment:
        _end_by(session, scope, rule, trial, text)
    return look.standing(session, scope).ended_by


def end_early(
    session: orm.Session,
    scope: Scope,
    rule: str,
    trial: int | None,
    text: str,
    *,
    amendment: int,
    decision: int,
) -> None:
    """Record why nothing more can be completed, if all is as it was when that was found.

    Args:
        rule, trial, text: see `RuleEnd`.
        amendment: the number of the last one then.
        decision: how many decisions had been carried out.
    """
    lock_study(session, scope.uid)
    seen = look.amendment(session, scope), look.decisions(session, scope)
    if seen == (amendment, decision) and not look.under_way(session, scope):
        _end_by(session, scope, rule, trial, text)


def _end_by(session: orm.Session, scope: Scope, rule: str, trial: int | None, text: str) -> None:
    now = session.scalar(sa.select(scope.now)) or 0.0
    end = RuleEnd(rule=rule, trial=trial, text=text, at=datetime.fromtimestamp(now, UTC))
    here = [_S.uid == scope.uid, _S.ended_by.is_(None)]
    stored = json.dumps(end.to_json())
    session.execute(schema.study.update().where(*here).values(ended_by=stored))


def forget_early_end(session: orm.Session, scope: Scope) -> None:
    """Let a study go on that ended early: more can be completed now."""
    lock_study(session, scope.uid)
    end = look.standing(session, scope).ended_by
    if end is not None and end.rule in EARLY:
        session.execute(schema.study.update().where(_S.uid == scope.uid).values(ended_by=None))
