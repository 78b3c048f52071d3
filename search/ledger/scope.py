"""Which study a statement concerns, and the statements of every claim, built once."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from search import attributes
from search.ledger.records import Lease, Limits
from search.storage import schema
from search.storage.optuna_tables import study_user_attrs

__all__ = ["Scope"]

_L = schema.lineage.c
_S = schema.study.c
_A = study_user_attrs.c


@dataclass(frozen=True, kw_only=True, eq=False)
class Scope:
    """The rows of one study.

    Building a statement takes as long as executing it, so those of every claim are kept here.

    Attributes:
        study_id: Optuna's.
        uid: ours, the key of the rows.
        limits: when a worker counts as dead, and how often a lineage may lose its worker.
        now: the database's clock, seconds since 1970.
    """

    study_id: int
    uid: str
    limits: Limits
    now: sa.ColumnElement[Any]

    @cached_property
    def mine(self) -> sa.ColumnElement[bool]:
        """The study's lineages."""
        return _L.uid == self.uid

    def attempt(self, lease: Lease) -> list[sa.ColumnElement[bool]]:
        """The row of a lease's lineage while that attempt is its last one."""
        return [self.mine, _L.lineage == lease.lineage, _L.attempt == lease.attempt]

    def held(self, lease: Lease) -> list[sa.ColumnElement[bool]]:
        """The row of a lease that is still its worker's."""
        return [*self.attempt(lease), _L.worker == lease.worker]

    def leased(self, *which: sa.ColumnElement[bool], skip_locked: bool = False) -> sa.Select[Any]:
        """The leased rows, by lineage, locked."""
        return (
            sa.select(schema.lineage)
            .where(self.mine, _L.worker.is_not(None), *which)
            .order_by(_L.lineage)
            .with_for_update(skip_locked=skip_locked)
        )

    @cached_property
    def there(self) -> sa.Select[Any]:
        """Finds the study while it is neither deleted nor renamed."""
        return sa.select(_A.study_id).where(
            _A.study_id == self.study_id,
            _A.key == attributes.UID,
            _A.value_json == json.dumps(self.uid),
        )

    @cached_property
    def ahead(self) -> sa.ColumnElement[bool]:
        """A proof of life from the future: the clock was put back since, and none came after."""
        return _L.heartbeat > self.now + 2 * self.limits.timing.heartbeat_seconds

    @cached_property
    def overdue(self) -> sa.Select[Any]:
        """The rows whose lease ran out while the database could be reached."""
        timing = self.limits.timing
        reached = sa.exists().where(
            _S.uid == self.uid,
            _S.awake <= self.now - timing.grace_seconds,
            _S.seen >= self.now - 2 * timing.heartbeat_seconds,
        )
        return self.leased(sa.or_(_L.until < self.now, self.ahead), reached, skip_locked=True)

    @cached_property
    def barred(self) -> sa.ColumnElement[bool]:
        """Whether no trial may start or go on: the study is halted, or paused by hand."""
        barred = sa.or_(_S.halted.is_not(None), _S.held_since.is_not(None))
        return sa.exists().where(_S.uid == self.uid, barred)

    @cached_property
    def ended(self) -> sa.ColumnElement[bool]:
        """Whether a stop rule has ended the study, so that no lineage begins."""
        return sa.exists().where(_S.uid == self.uid, _S.ended_by.is_not(None))

    @cached_property
    def next_free(self) -> sa.Select[Any]:
        """The free row to claim: those that were tried before come first, then by turn."""
        return (
            sa.select(schema.lineage)
            .where(self.mine, schema.free, ~self.barred)
            .where(sa.or_(_L.trial.is_not(None), ~self.ended))
            .order_by(_L.trial.is_(None), _L.turn, _L.lineage)
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    @cached_property
    def contact(self) -> sa.Update:
        """Adds to the active time, and notices when nobody reached the database for long.

        All workers share this row, and who writes it keeps the others waiting until the commit. So
        it is written only where the last contact is older than a fifth of a heartbeat, or lies in
        the future because the clock was put back. A gap of more than two heartbeats counts as two
        if somebody has held a lease since before it, else as nothing.
        """
        beat = self.limits.timing.heartbeat_seconds
        longest = 2 * beat
        before = sa.and_(_L.worker.is_not(None), _L.since <= _S.seen + beat / 5)
        at_work = sa.exists().where(self.mine, before).correlate(schema.study)
        gap = self.now - sa.func.coalesce(_S.seen, self.now)
        broken = sa.or_(_S.awake.is_(None), gap > longest, gap < -longest)
        due = sa.or_(_S.seen.is_(None), _S.seen < self.now - beat / 5, _S.seen > self.now)
        return (
            schema.study.update()
            .where(_S.uid == self.uid, due)
            .values(
                elapsed=_S.elapsed
                + sa.case(
                    (sa.or_(gap < 0, _S.held_since.is_not(None)), 0.0),
                    (gap > longest, sa.case((at_work, longest), else_=0.0)),
                    else_=gap,
                ),
                awake=sa.case((broken, self.now), else_=_S.awake),
                seen=self.now,
            )
        )
