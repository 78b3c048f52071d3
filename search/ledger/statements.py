"""The statements on one study's rows, each inside a transaction of the caller's.

Locks are taken in one order, so transactions do not wait for each other in a circle: rows of
lineages, the study, a trial, and the row of contacts last.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.errors import StorageError
from search.ledger.attempt import Fresh, first_attempt, next_attempt
from search.ledger.records import Claim, Lease, Timing
from search.storage import schema
from search.storage.optuna_tables import study_user_attrs, trial_user_attrs, trials
from search.storage.trial_rows import add_trial, finish_trial, read_trials

__all__ = ["Lineages"]

_L = schema.lineage.c
_S = schema.study.c
_A = study_user_attrs.c
_T = trials.c
_U = trial_user_attrs.c


class Lineages:
    """The rows of one study.

    Attributes:
        study_id: Optuna's.
        uid: ours, under which the rows are kept.
        timing: when a worker counts as dead.
        max_retries: how many losses of a lineage are followed by another attempt.
        on_lost: called with a lineage after it has ended because of too many losses.
    """

    def __init__(
        self,
        study_id: int,
        uid: str,
        timing: Timing,
        max_retries: int,
        now: sa.ColumnElement[Any],
    ) -> None:
        self.study_id = study_id
        self.uid = uid
        self.timing = timing
        self.max_retries = max_retries
        self.on_lost: Callable[[int], None] = lambda lineage: None
        self._now = now
        self._mine = _L.uid == uid

    def _reap(self, session: orm.Session) -> dict[int, bool]:
        """Lose the rows whose lease ran out while the database could be reached.

        Returns:
            For each lineage that was lost once more, whether it has ended with that.

        Raises:
            StorageError: the study is there no longer.
        """
        if session.scalar(self._there) is None:
            raise StorageError(
                "the study was deleted or renamed while it was worked on; "
                "start it anew, or go on with it under its new name"
            )
        grace = {"grace": self.timing.grace_seconds, "recently": 2 * self.timing.heartbeat_seconds}
        return self._lose_all(session, self._overdue, grace)

    # Building a statement takes as long as executing it, so those of every claim are kept.

    @cached_property
    def _there(self) -> sa.Select[Any]:
        return sa.select(_A.study_id).where(
            _A.study_id == self.study_id,
            _A.key == attributes.UID,
            _A.value_json == json.dumps(self.uid),
        )

    @cached_property
    def _overdue(self) -> sa.Select[Any]:
        reached = sa.exists().where(
            _S.uid == self.uid,
            _S.awake <= self._now - sa.bindparam("grace", type_=sa.Float),
            _S.seen >= self._now - sa.bindparam("recently", type_=sa.Float),
        )
        # A proof of life from the future: the clock was put back since, and there was none after.
        ahead = _L.beat > self._now + sa.bindparam("recently", type_=sa.Float)
        return self._leased(sa.or_(_L.until < self._now, ahead), reached, skip_locked=True)

    @cached_property
    def _next_free(self) -> sa.Select[Any]:
        halted = sa.exists().where(_S.uid == self.uid, _S.halted.is_not(None))
        return (
            sa.select(schema.lineage)
            .where(self._mine, _L.done == 0, _L.worker.is_(None), ~halted)
            .order_by(_L.trial.is_(None), _L.lineage)
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    @cached_property
    def _contact(self) -> sa.Update:
        longest = sa.bindparam("longest", type_=sa.Float)
        gap = self._now - sa.func.coalesce(_S.seen, self._now)
        anew = sa.or_(_S.awake.is_(None), gap > longest, gap < -longest)
        return (
            schema.study.update()
            .where(_S.uid == self.uid)
            .values(
                elapsed=_S.elapsed + sa.case((gap > longest, longest), (gap < 0, 0.0), else_=gap),
                awake=sa.case((anew, self._now), else_=_S.awake),
                seen=self._now,
            )
        )

    def _leased(self, *which: sa.ColumnElement[bool], skip_locked: bool = False) -> sa.Select[Any]:
        """The leased rows, by lineage."""
        return (
            sa.select(schema.lineage)
            .where(self._mine, _L.worker.is_not(None), *which)
            .order_by(_L.lineage)
            .with_for_update(skip_locked=skip_locked)
        )

    def _lose_all(
        self, session: orm.Session, leased: sa.Select[Any], values: Mapping[str, Any] | None = None
    ) -> dict[int, bool]:
        rows = session.execute(leased, values).all()
        return {row.lineage: self._lose(session, row) for row in rows}

    def _lose(self, session: orm.Session, row: sa.Row[Any]) -> bool:
        """Fail the trial of a leased row as lost and free the row, or end it after too many.

        Returns:
            Whether these were too many.
        """
        here = [self._mine, _L.lineage == row.lineage]
        free: dict[str, Any] = {"worker": None, "until": None}
        trial_id = self._lock_running(session, row.trial)
        if trial_id is None:  # another program ended it: it counts
            self._update(session, here, **free, done=1, ended=self._now)
            return False
        lost = {attributes.REASON: Reason.LOST.value}
        finish_trial(session, trial_id, TrialState.FAIL, value=None, user_attrs=lost, steps={})
        over = bool(row.losses + 1 > self.max_retries)
        if over:
            free |= {"done": 1, "ended": self._now}
        self._update(session, here, **free, losses=row.losses + 1)
        return over

    def _tell(self, lost: Mapping[int, bool]) -> int:
        """After the commit: tell of the lineages that have ended as lost; returns how many lost."""
        for lineage, over in lost.items():
            if over:
                self.on_lost(lineage)
        return len(lost)

    def _claim(
        self,
        session: orm.Session,
        worker: str,
        token: str,
        fresh: Callable[[int], Fresh],
        origin: Mapping[str, Any],
    ) -> Claim | None:
        """Lease a free row and create its trial; those that were tried before come first."""
        row = session.execute(self._next_free).one_or_none()
        if row is None:
            return None
        previous = self._trial(session, row.trial)
        trial = first_attempt(fresh(row.lineage)) if previous is None else next_attempt(previous)
        lease = Lease(uid=self.uid, lineage=row.lineage, attempt=row.attempt + 1, worker=worker)
        trial.user_attrs |= {**origin, attributes.LINEAGE: lease.lineage}
        trial.system_attrs[attributes.LEASE] = [lease.lineage, lease.attempt]
        add_trial(session, self.study_id, trial)
        self._update(
            session,
            [self._mine, _L.lineage == row.lineage],
            attempt=lease.attempt,
            trial=trial.number,
            worker=worker,
            token=token,
            since=self._now,
            beat=self._now,
            until=self._now + self.timing.lease_seconds,
        )
        return Claim(lease=lease, trial=trial, previous=row.trial)

    def _claimed(self, session: orm.Session, worker: str, token: str) -> Claim | None:
        """The claim of that token, when it was committed and only the answer was lost."""
        row = session.execute(
            sa.select(schema.lineage).where(self._mine, _L.token == token, _L.worker == worker)
        ).one_or_none()
        if row is None:
            return None
        trial = self._trial(session, row.trial)
        assert trial is not None, "a claim and its trial are one transaction"
        lease = Lease(uid=self.uid, lineage=row.lineage, attempt=row.attempt, worker=worker)
        return Claim(lease=lease, trial=trial, previous=trial.user_attrs.get(attributes.RETRY_OF))

    def _touch(self, session: orm.Session) -> None:
        """Leave a contact: add to the active time, and notice when there was none for long."""
        session.execute(self._contact, {"longest": 2 * self.timing.heartbeat_seconds})

    def _held(self, lease: Lease) -> list[sa.ColumnElement[bool]]:
        return [*self._attempt(lease), _L.worker == lease.worker]

    def _attempt(self, lease: Lease) -> list[sa.ColumnElement[bool]]:
        return [self._mine, _L.lineage == lease.lineage, _L.attempt == lease.attempt]

    @staticmethod
    def _update(
        session: orm.Session, where: Sequence[sa.ColumnElement[bool]], **values: Any
    ) -> int:
        result: Any = session.execute(schema.lineage.update().where(*where).values(**values))
        return int(result.rowcount)

    def _trial(self, session: orm.Session, number: int | None) -> FrozenTrial | None:
        if number is None:
            return None
        found = read_trials(session.connection(), self.study_id, number=number)
        return found[0] if found else None

    def _lock_running(self, session: orm.Session, number: int) -> int | None:
        """Keep a RUNNING trial from changing until the commit; its id, None when it has ended."""
        trial_id: int | None = session.scalar(
            sa.select(_T.trial_id)
            .where(
                _T.study_id == self.study_id,
                _T.number == number,
                _T.state == TrialState.RUNNING,
            )
            .with_for_update()
        )
        return trial_id

    def _error(self, session: orm.Session, number: int) -> str | None:
        """Type and place of a trial's error; its text where an older version stored no place."""
        stored = session.execute(
            sa.select(_U.key, _U.value_json)
            .join(trials, _T.trial_id == _U.trial_id)
            .where(
                _T.study_id == self.study_id,
                _T.number == number,
                _U.key.in_((attributes.ERROR, attributes.ERROR_AT)),
            )
        )
        found = {row.key: json.loads(row.value_json) for row in stored}
        return found.get(attributes.ERROR_AT, found.get(attributes.ERROR))
