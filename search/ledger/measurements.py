"""The sealed measurements of a study: how often the test set was looked at, and what was seen."""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from search.errors import SearchError
from search.ledger.changes import lock_study
from search.storage import Storage, schema
from search.text import times

__all__ = ["Sealed", "SealedMeasurement", "measurements", "record", "refuse_unless_first"]


class Sealed(SearchError):
    """The one measurement was made before, and another was not asked for by name."""

    def __init__(self, study: str, first: "SealedMeasurement", count: int) -> None:
        super().__init__(
            f"the test set of study {study!r} was measured {times(count)}, first on "
            f"{first.at:%Y-%m-%d %H:%M} UTC; a further measurement makes its figure less honest: "
            "ask for it with --again"
        )
        self.study = study
        self.count = count


@dataclass(frozen=True, kw_only=True)
class SealedMeasurement:
    """One recorded measurement; `n` counts from 1."""

    n: int
    at: datetime  # UTC, by the database's clock
    payload: Mapping[str, Any]


def measurements(storage: Storage, uid: str) -> list[SealedMeasurement]:
    """Every measurement recorded for a study, oldest first."""

    def work(session: orm.Session) -> list[SealedMeasurement]:
        table = schema.evaluation
        rows = session.execute(sa.select(table).where(table.c.uid == uid).order_by(table.c.n))
        return [
            SealedMeasurement(
                n=row.n, at=datetime.fromtimestamp(row.at, UTC), payload=json.loads(row.payload)
            )
            for row in rows
        ]

    return storage.read(work)


def refuse_unless_first(storage: Storage, uid: str, study: str, *, again: bool) -> None:
    """Call before measuring.

    Raises:
        Sealed: there was a measurement, and `again` was not asked for.
    """
    earlier = measurements(storage, uid)
    if earlier and not again:
        raise Sealed(study, earlier[0], len(earlier))


def record(
    storage: Storage, uid: str, study: str, payload: Mapping[str, Any], *, again: bool
) -> int:
    """Record a measurement before anybody is shown it; returns its number.

    Each call records one measurement, also where an earlier one had the same content. Of two
    processes that measure for the first time at once, one is refused.

    Raises:
        Sealed: there was a measurement, and `again` was not asked for.
        StorageError: the study was deleted.
    """
    refuse_unless_first(storage, uid, study, again=again)
    text = json.dumps(payload)
    token = uuid.uuid4().hex  # recognises this write when its answer was lost
    now = schema.Clock().now(storage.dialect)
    table = schema.evaluation

    def work(session: orm.Session) -> int | None:
        lock_study(session, uid)
        last = session.scalar(sa.select(sa.func.max(table.c.n)).where(table.c.uid == uid)) or 0
        if last and not again:  # another process was first, since the check above
            return None
        session.execute(
            table.insert().values(uid=uid, n=last + 1, at=now, payload=text, token=token)
        )
        return int(last) + 1

    def settled(session: orm.Session) -> int | None:
        return session.scalar(
            sa.select(table.c.n).where(table.c.uid == uid, table.c.token == token)
        )

    number: int | None = None
    while number is None:
        with suppress(exc.IntegrityError):  # another process has just taken the number
            number = storage.write(work, settled=settled)
        if number is None:
            refuse_unless_first(storage, uid, study, again=again)
    return number
