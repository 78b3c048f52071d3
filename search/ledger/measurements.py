"""The sealed measurements of a study: how often the test set was looked at, and what was seen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from search.errors import SearchError
from search.storage import Storage, schema

__all__ = ["Sealed", "SealedMeasurement", "measurements", "record", "refuse_unless_first"]


class Sealed(SearchError):
    """The one measurement was made before, and another was not asked for by name."""

    def __init__(self, study: str, first: "SealedMeasurement", count: int) -> None:
        times = "once" if count == 1 else f"{count} times"
        super().__init__(
            f"the test set of study {study!r} was measured {times}, first on "
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

    The numbers are keys, so of two processes that measure at once one is refused.

    Raises:
        Sealed: there was a measurement, and `again` was not asked for.
    """
    refuse_unless_first(storage, uid, study, again=again)
    text = json.dumps(payload)
    now = schema.Clock().now(storage.dialect)
    table = schema.evaluation

    def work(session: orm.Session) -> int:
        last = session.scalar(sa.select(sa.func.max(table.c.n)).where(table.c.uid == uid)) or 0
        session.execute(table.insert().values(uid=uid, n=last + 1, at=now, payload=text))
        return int(last) + 1

    def settled(session: orm.Session) -> int | None:
        return session.scalar(
            sa.select(table.c.n).where(table.c.uid == uid, table.c.payload == text)
        )

    try:
        number = storage.write(work, settled=settled)
    except exc.IntegrityError:
        earlier = measurements(storage, uid)
        raise Sealed(study, earlier[0], len(earlier)) from None
    return number
