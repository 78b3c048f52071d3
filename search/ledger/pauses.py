"""The changes of paused rows: functions of a transaction and a `Scope`, as in `statements`."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.ledger import look
from search.ledger.changes import (
    close,
    count_decision,
    end_elsewhere,
    lease_row,
    lock_running,
    lock_study,
    row_of,
    trial_of,
    update,
)
from search.ledger.records import Choice, Claim, How, Lease
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.optuna_tables import trial_user_attrs, trials
from search.storage.trial_rows import Writes, finish_trial, read_trials

__all__ = [
    "claim_paused",
    "end_paused",
    "end_paused_elsewhere",
    "go_on",
    "went_on",
]

_L = schema.lineage.c
_T = trials.c
_U = trial_user_attrs.c


def claim_paused(
    session: orm.Session,
    scope: Scope,
    lease: Lease,
    token: str,
    choice: Choice,
    origin: dict[str, Any],
) -> Claim | None:
    """Lease a paused row as the attempt after the one that paused; its trial goes on.

    Returns:
        None where the row is not paused any more, was paused again since, or nothing may start.

    Raises:
        Superseded: another decision was carried out since.
    """
    seen = [_L.paused == 1, _L.attempt == lease.attempt - 1, ~scope.barred]
    paused = [*row_of(scope, lease.lineage), *seen]
    number = session.scalar(sa.select(_L.trial).where(*paused).with_for_update())
    if number is None:
        return None
    trial_id = lock_running(session, scope, number)
    if trial_id is None:
        end_elsewhere(session, scope, lease.lineage)
        return None
    mark = {attributes.LEASE: [lease.lineage, lease.attempt]}
    trial = _decided(session, scope, trial_id, number, choice, origin, mark)
    lease_row(session, scope, lease, number, token, choice.pause_at)
    count_decision(session, scope, choice.number)
    return Claim(lease=lease, trial=trial, pause_at=choice.pause_at)


def go_on(
    session: orm.Session, scope: Scope, lease: Lease, number: int, choice: Choice
) -> FrozenTrial | None:
    """Let a leased row's trial run past its pause; None when the lease is no longer held.

    Raises:
        Superseded: another decision was carried out since.
    """
    held = sa.select(_L.lineage).where(*scope.held(lease)).with_for_update()
    if session.scalar(held) is None:
        return None
    trial_id = lock_running(session, scope, number)
    if trial_id is None:
        end_elsewhere(session, scope, lease.lineage)
        close(session, scope, lease.lineage, lease.attempt, How.ELSEWHERE)
        return None
    update(session, row_of(scope, lease.lineage), pause_at=choice.pause_at)
    trial = _decided(session, scope, trial_id, number, choice, {}, {})
    count_decision(session, scope, choice.number)
    return trial


def went_on(
    session: orm.Session, scope: Scope, lease: Lease, number: int, choice: Choice
) -> FrozenTrial | None:
    """What `go_on` returned, when it was committed and only the answer was lost.

    A row that is leased changes its next pause in `go_on` alone, and never to the same one.
    """
    held = sa.select(_L.pause_at).where(*scope.held(lease))
    row = session.execute(held).one_or_none()
    if row is None or row.pause_at != choice.pause_at:
        return None
    return trial_of(session, scope, number)


def _decided(
    session: orm.Session,
    scope: Scope,
    trial_id: int,
    number: int,
    choice: Choice,
    user_attrs: dict[str, Any],
    system_attrs: dict[str, Any],
) -> FrozenTrial:
    """Record a decision with its trial, which is locked; the trial as it then stands."""
    trial = trial_of(session, scope, number)
    assert trial is not None, "it is locked"
    decisions = [*trial.user_attrs.get(attributes.DECISIONS, []), dict(choice.record)]
    writes = Writes(
        user_attrs={**user_attrs, attributes.DECISIONS: decisions}, system_attrs=system_attrs
    )
    writes.apply(session, scope.study_id, trial_id, {})
    return writes.applied_to(trial)


def end_paused(
    session: orm.Session,
    scope: Scope,
    audited: Callable[[int], bool],
    finish: int | None,
    amendment: int,
    by_rule: bool,
) -> list[int]:
    """End every paused row: its trial is PRUNED at its last report, as the budget is used up.

    The row of the lineage `finish` is freed instead, and runs to its end. So is that of an audited
    lineage; its trial is marked.

    Args:
        amendment: the number of the last one when the budget was found used up.
        by_rule: whether a stop rule had ended the study then.

    Returns:
        The lineages that ended so, now or earlier; none, and nothing is done, where the study was
        amended since, or let go on.
    """
    here = [scope.mine, _L.paused == 1]
    rows = session.execute(
        sa.select(schema.lineage).where(*here).order_by(_L.lineage).with_for_update()
    ).all()
    lock_study(session, scope.uid)
    goes_on = by_rule and look.standing(session, scope).ended_by is None
    if goes_on or look.amendment(session, scope) != amendment:
        return []
    known = {}
    if rows:
        known = {t.number: t for t in read_trials(session.connection(), scope.study_id)}
    for row in rows:
        trial_id = lock_running(session, scope, row.trial)
        if trial_id is None:
            end_elsewhere(session, scope, row.lineage)
            continue
        steps = known[row.trial].intermediate_values
        last = max(steps, default=0)
        value = steps.get(last)
        if row.lineage == finish or audited(row.lineage):
            if row.lineage != finish:
                mark = {attributes.AUDIT: {"trial": row.trial, "step": last, "value": value}}
                Writes(user_attrs=mark).apply(session, scope.study_id, trial_id, {})
            update(session, row_of(scope, row.lineage), paused=0, pause_at=None)
            continue
        reason = {attributes.REASON: Reason.OUT_OF_BUDGET.value}
        finish_trial(session, trial_id, TrialState.PRUNED, value=value, user_attrs=reason, steps={})
        update(session, row_of(scope, row.lineage), paused=0, done=1, ended=scope.now)
    return _out_of_budget(session, scope)


def _out_of_budget(session: orm.Session, scope: Scope) -> list[int]:
    ended = (
        sa.select(_L.lineage)
        .join(trials, sa.and_(_T.study_id == scope.study_id, _T.number == _L.trial))
        .join(trial_user_attrs, _U.trial_id == _T.trial_id)
        .where(
            scope.mine,
            _L.done == 1,
            _U.key == attributes.REASON,
            _U.value_json == f'"{Reason.OUT_OF_BUDGET.value}"',
        )
        .order_by(_L.lineage)
    )
    return list(session.scalars(ended))


def end_paused_elsewhere(session: orm.Session, scope: Scope) -> None:
    """End the paused rows whose trial another program ended: they count."""
    ended = sa.select(_T.number).where(
        _T.study_id == scope.study_id, _T.state != TrialState.RUNNING
    )
    which = [scope.mine, _L.paused == 1, _L.trial.in_(ended)]
    update(session, which, done=1, ended=scope.now, paused=0)
