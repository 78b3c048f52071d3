"""What people do to a study by hand: stop a trial, pause all of it, give failed trials another try.

Workers need not be asked: what they hold is taken from them, or not offered to them any more.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.ledger import statements
from search.ledger.changes import close, lock_running, lock_study, row_of, trial_of, update
from search.ledger.ledger import Ledger
from search.storage import schema
from search.storage.optuna_tables import trial_user_attrs, trials
from search.storage.trial_rows import finish_trial

__all__ = ["Stopped", "hold", "let_go_on", "retry_failed", "stop_trial"]

_H = schema.attempt.c
_L = schema.lineage.c
_S = schema.study.c
_T = trials.c
_U = trial_user_attrs.c


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A trial that was stopped by hand.

    Attributes:
        attempt: of the lineage, its last one.
        worker: who ran it; None: it was paused or waited for a worker.
    """

    lineage: int
    attempt: int
    worker: str | None


def stop_trial(ledger: Ledger, number: int) -> Stopped | None:
    """End a running, paused or released trial: PRUNED at its last report; its lineage counts.

    A worker that runs it learns of it at its next report or heartbeat, and goes on with another.

    Returns:
        None where the trial has ended, or there is none of that number.
    """
    scope = ledger.scope
    # With two metrics a trial that was not complete has no values: not all are known.
    valued = len(ledger.storage.optuna.get_study_directions(ledger.study_id)) == 1

    def work(session: orm.Session) -> Stopped | None:
        row = session.execute(
            sa.select(schema.lineage)
            .where(scope.mine, _L.trial == number, _L.done == 0)
            .with_for_update()
        ).one_or_none()
        trial_id = None if row is None else lock_running(session, scope, number)
        if row is None or trial_id is None:
            return None
        trial = trial_of(session, scope, number)
        assert trial is not None, "it is locked"
        steps = trial.intermediate_values
        value = steps[max(steps)] if steps and valued else None
        reason = {attributes.REASON: Reason.BY_HAND.value}
        finish_trial(session, trial_id, TrialState.PRUNED, value=value, user_attrs=reason, steps={})
        if row.worker is not None:
            close(session, scope, row.lineage, row.attempt, Reason.BY_HAND.value)
        ended = {"done": 1, "ended": scope.now, "paused": 0, "worker": None, "until": None}
        update(session, row_of(scope, row.lineage), **ended)
        return Stopped(lineage=row.lineage, attempt=row.attempt, worker=row.worker)

    def settled(session: orm.Session) -> Stopped | None:
        trial = trial_of(session, scope, number)
        if trial is None or trial.user_attrs.get(attributes.REASON) != Reason.BY_HAND.value:
            return None
        lineage, attempt = trial.system_attrs[attributes.LEASE]
        taken = [_H.uid == ledger.uid, _H.lineage == lineage, _H.how == Reason.BY_HAND.value]
        worker = session.scalar(sa.select(_H.worker).where(*taken, _H.attempt == attempt))
        return Stopped(lineage=lineage, attempt=attempt, worker=worker)

    return ledger.storage.write(work, settled=settled)


def hold(ledger: Ledger) -> bool:
    """Pause the study: nothing is leased, and workers release their trials.

    Returns:
        False where it was paused before.

    Raises:
        StorageError: the study was deleted.
    """
    return _set_held(ledger, ledger.scope.now, _S.held_since.is_(None))


def let_go_on(ledger: Ledger) -> bool:
    """End the pause of the study; False where it was not paused."""
    return _set_held(ledger, None, _S.held_since.is_not(None))


def _set_held(ledger: Ledger, since: Any, where: sa.ColumnElement[bool]) -> bool:
    changed = False  # also where an answer was lost, and the repetition changes nothing

    def work(session: orm.Session) -> bool:
        nonlocal changed
        lock_study(session, ledger.uid)
        result: Any = session.execute(
            schema.study.update().where(_S.uid == ledger.uid, where).values(held_since=since)
        )
        changed = changed or result.rowcount == 1
        return changed

    return ledger.storage.write(work)


def retry_failed(ledger: Ledger) -> int:
    """Free the lineages whose last trial FAILed: by an error, out of memory, or lost for good.

    The study is then unfinished again. Each gets a new trial with the same parameters, and as many
    retries as at first; the failed trials stay as they are.

    Returns:
        How many lineages. One whose trial another program failed is none of them.

    Raises:
        StorageError: the study was deleted.
    """
    most = 0  # also where an answer was lost, and the repetition finds none

    def work(session: orm.Session) -> int:
        nonlocal most
        ours = sa.select(_U.trial_id).where(_U.key == attributes.REASON)
        failed = sa.select(_T.number).where(
            _T.study_id == ledger.study_id,
            _T.state == TrialState.FAIL,
            _T.trial_id.in_(ours),
        )
        done = [_L.uid == ledger.uid, _L.done == 1, _L.trial.in_(failed)]
        lock_study(session, ledger.uid)  # first, as `resume` does
        freed = update(session, done, done=0, ended=None, lost_attempts=0)
        if freed:
            statements.forget_early_end(session, ledger.scope)
        most = max(most, freed)
        return most

    return ledger.storage.write(work)
