"""What was changed of a study's budget since it was created, numbered, beside the frozen spec.

An amendment and the lineages that it adds are one transaction. The list is a user attribute of the
study, so a study that was made by an earlier version can be amended, and a copy has the list too.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from search import attributes
from search.ledger.ledger import Ledger
from search.spec import StudySpec
from search.storage import schema
from search.storage.study_rows import set_study_attr, study_attr

__all__ = ["Amendment", "amendments", "amendments_of", "extend"]


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """One change of a study's budget.

    Attributes:
        number: counts from 1.
        at: UTC, by the database's clock.
        text: the keys of the study file that it changed, with their values since then.
        replaced: the same keys with their values before.
        hash: SHA-256 of the text and of the hash before, the first one's of the frozen spec's: two
            studies with one hash have one spec and one history of amendments.
        trials, hours: the whole budget since then.
    """

    number: int
    at: datetime
    text: str
    replaced: Mapping[str, Any]
    hash: str
    trials: int
    hours: float | None

    def __str__(self) -> str:
        """One line: "amendment 1 of 2026-11-28 19:50 UTC: budget.trials 40 -> 60"."""
        now = {"budget.trials": self.trials, "budget.hours": self.hours}
        changes = [f"{key} {before:g} -> {now[key]:g}" for key, before in self.replaced.items()]
        return f"amendment {self.number} of {self.at:%Y-%m-%d %H:%M} UTC: {', '.join(changes)}"

    def to_json(self) -> dict[str, Any]:
        """JSON values, as they are stored; `amendments_of` reads them back."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "text": self.text,
            "replaced": dict(self.replaced),
            "hash": self.hash,
            "trials": self.trials,
            "hours": self.hours,
        }


def amendments_of(stored: Sequence[Mapping[str, Any]]) -> tuple[Amendment, ...]:
    """The amendments of a study, by its user attribute, oldest first."""
    return tuple(
        Amendment(
            at=datetime.fromisoformat(one["at"]),
            **{key: one[key] for key in ("number", "text", "replaced", "hash", "trials", "hours")},
        )
        for one in stored
    )


def amendments(ledger: Ledger) -> tuple[Amendment, ...]:
    """The amendments of a study as they stand in the storage, oldest first."""
    return amendments_of(ledger.storage.read(lambda session: _stored(session, ledger)))


def extend(ledger: Ledger, spec: StudySpec, *, trials: int, hours: float) -> Amendment:
    """Add lineages to the budget, and hours; workers that are at work take both.

    Args:
        spec: the study's.
        trials: how many lineages are added; hours likewise.

    Raises:
        SpecError: the study cannot have so many trials, or has no limit of hours.
    """
    token = uuid.uuid4().hex  # recognises this write when its answer was lost

    def work(session: orm.Session) -> Amendment:
        mine = schema.study.c.uid == ledger.uid
        # Of two that extend at once, one waits here.
        session.execute(sa.select(schema.study.c.uid).where(mine).with_for_update())
        stored = _stored(session, ledger)
        now = session.scalar(sa.select(ledger.scope.now)) or 0.0
        amendment = _next(spec, amendments_of(stored), datetime.fromtimestamp(now, UTC),
                          trials=trials, hours=hours)  # fmt: skip
        if trials:
            session.execute(
                schema.lineage.insert(),
                [
                    {"uid": ledger.uid, "lineage": n, "done": 0, "attempt": 0, "lost_attempts": 0}
                    for n in range(amendment.trials - trials, amendment.trials)
                ],
            )
        stored = [*stored, {**amendment.to_json(), "token": token}]
        set_study_attr(session, ledger.study_id, attributes.AMENDMENTS, stored)
        return amendment

    def settled(session: orm.Session) -> Amendment | None:
        stored = _stored(session, ledger)
        found = [one for one in stored if one["token"] == token]
        return amendments_of(found)[0] if found else None

    return ledger.storage.write(work, settled=settled)


def _stored(session: orm.Session, ledger: Ledger) -> list[dict[str, Any]]:
    return study_attr(session, ledger.study_id, attributes.AMENDMENTS) or []


def _next(
    spec: StudySpec, earlier: Sequence[Amendment], at: datetime, *, trials: int, hours: float
) -> Amendment:
    """The amendment that follows the earlier ones."""
    last = earlier[-1] if earlier else None
    before = spec.amended(last.trials, last.hours) if last else spec
    now = before.extended(trials, hours)
    replaced: dict[str, Any] = {}
    text = ""
    if now.trials != before.trials:
        replaced["budget.trials"] = before.trials
        text += f"budget.trials = {now.trials}\n"
    if now.hours != before.hours:
        replaced["budget.hours"] = before.hours
        text += f"budget.hours = {json.dumps(now.hours)}\n"
    previous = last.hash if last else spec.hash
    return Amendment(
        number=len(earlier) + 1,
        at=at,
        text=text,
        replaced=replaced,
        hash=hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest(),
        trials=now.trials,
        hours=now.hours,
    )
