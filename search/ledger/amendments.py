"""What was changed of a study since it was created, numbered, beside the frozen spec.

An amendment and the lineages that it adds are one transaction. Every trial bears the number of the
last amendment when it was proposed: a claim that begins a lineage by an older spec is void.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from search.errors import SpecError
from search.ledger.changes import lock_study
from search.ledger.ledger import Ledger
from search.spec import StudySpec
from search.spec.amend import Changes, Draft, amended, changed_tables, changes_search, lines_of
from search.storage import schema

__all__ = ["Amendment", "amend", "amendments", "given", "spec_since"]

_A = schema.amendment.c
_L = schema.lineage.c
_S = schema.study.c


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """One change of a study.

    Attributes:
        number: counts from 1.
        at: UTC, by the database's clock.
        spec: the text of the whole study file since then.
        text: what it changed of that, as lines of TOML.
        changes: the changed keys, each with its value before and since; None where it is absent.
        hash: SHA-256 of the text and of the hash before, the first one's of the frozen spec's: two
            studies with one hash have one spec and one history of amendments.
        trials: the lineages since then, those added one at a time included.
        given: the parameters of the one lineage that it adds; None where it adds none by hand.
    """

    number: int
    at: datetime
    spec: str
    text: str
    changes: Changes
    hash: str
    trials: int
    given: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """One line: "amendment 1 of 2026-11-28 19:50 UTC: budget.trials 40 -> 60"."""
        words = ", ".join(lines_of(self.changes, self.given))
        return f"amendment {self.number} of {self.at:%Y-%m-%d %H:%M} UTC: {words}"

    @property
    def only_refit(self) -> bool:
        """Whether it changes [refit] alone, so that no trial of the study means anything else."""
        return self.given is None and changed_tables(self.changes) == {"refit"}

    @property
    def searches(self) -> bool:
        """See `Draft.searches`."""
        return changes_search(self.changes, self.given)

    @property
    def replaced(self) -> dict[str, Any]:
        """The changed keys with their values before; None where one was absent."""
        return {key: before for key, (before, _) in self.changes.items()}

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `--json` shows them."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "text": self.text,
            "replaced": self.replaced,
            "hash": self.hash,
            "trials": self.trials,
            "given": None if self.given is None else dict(self.given),
        }


def amendments(ledger: Ledger, *, after: int = 0) -> tuple[Amendment, ...]:
    """The amendments of a study as they stand in the storage, oldest first.

    Args:
        after: only those with a larger number.
    """
    return ledger.storage.read(lambda session: _stored(session, ledger, after=after))


def given(found: Sequence[Amendment]) -> dict[int, Mapping[str, Any]]:
    """Lineages that were added one at a time, with their parameters."""
    return {one.trials - 1: one.given for one in found if one.given is not None}


def spec_since(frozen: StudySpec, found: Sequence[Amendment]) -> StudySpec:
    """The spec of a study since the last of these amendments.

    Args:
        frozen: that of its creation.
        found: from the first one on.
    """
    return amended(frozen, found[-1].spec, given(found)) if found else frozen


def amend(
    ledger: Ledger,
    frozen: StudySpec,
    draft_of: Callable[[StudySpec, int], Draft],
) -> Amendment:
    """Amend a study; workers that are at work take the amendment with their next claim.

    Args:
        frozen: the spec of the study's creation.
        draft_of: called with the present spec and the number of its last amendment (0 without
            any), inside the transaction; what it raises leaves the study as it is.

    Raises:
        SpecError: a named trial that has not begun would be dropped.
        StorageError: the study was deleted.
    """
    token = uuid.uuid4().hex  # recognises this write when its answer was lost

    def work(session: orm.Session) -> Amendment:
        lock_study(session, ledger.uid)  # of two that amend at once, one waits here
        earlier = _stored(session, ledger)
        before = spec_since(frozen, earlier)
        draft = draft_of(before, len(earlier))
        _refuse_unbegun(session, ledger, draft)
        now = session.scalar(sa.select(ledger.scope.now)) or 0.0
        made = _next(frozen, earlier, draft, datetime.fromtimestamp(now, UTC))
        _add_lineages(session, ledger, before.trials, made)
        session.execute(schema.amendment.insert().values(_row(made, ledger.uid, now, token)))
        if draft.searches:  # what ended the study may end it no longer: that is found out anew
            session.execute(schema.study.update().where(_S.uid == ledger.uid).values(ended_by=None))
        return made

    def settled(session: orm.Session) -> Amendment | None:
        found = session.scalar(sa.select(_A.number).where(_A.uid == ledger.uid, _A.token == token))
        return None if found is None else _stored(session, ledger, after=found - 1)[0]

    return ledger.storage.write(work, settled=settled)


def _stored(session: orm.Session, ledger: Ledger, *, after: int = 0) -> tuple[Amendment, ...]:
    rows = session.execute(
        sa.select(schema.amendment)
        .where(_A.uid == ledger.uid, _A.number > after)
        .order_by(_A.number)
    )
    return tuple(
        Amendment(
            number=row.number,
            at=datetime.fromtimestamp(row.at, UTC),
            spec=row.spec,
            text=row.text,
            changes={key: (old, new) for key, (old, new) in json.loads(row.changes).items()},
            hash=row.hash,
            trials=row.trials,
            given=None if row.given is None else json.loads(row.given),
        )
        for row in rows
    )


def _row(made: Amendment, uid: str, at: float, token: str) -> dict[str, Any]:
    return {
        "uid": uid,
        "number": made.number,
        "at": at,
        "spec": made.spec,
        "text": made.text,
        "changes": json.dumps(made.changes),
        "hash": made.hash,
        "trials": made.trials,
        "given": None if made.given is None else json.dumps(made.given),
        "token": token,
    }


def _next(frozen: StudySpec, earlier: Sequence[Amendment], draft: Draft, at: datetime) -> Amendment:
    """The amendment that follows the earlier ones."""
    known = given(earlier)
    if draft.given is not None:
        before = earlier[-1].trials if earlier else frozen.trials
        known[before] = draft.given
    previous = earlier[-1].hash if earlier else frozen.hash
    return Amendment(
        number=len(earlier) + 1,
        at=at,
        spec=draft.spec,
        text=draft.text,
        changes=draft.changes,
        hash=hashlib.sha256(f"{previous}\n{draft.text}".encode()).hexdigest(),
        trials=amended(frozen, draft.spec, known).trials,
        given=draft.given,
    )


def _add_lineages(session: orm.Session, ledger: Ledger, before: int, made: Amendment) -> None:
    if made.trials == before:
        return
    turn = 1 if made.given is None else 0
    rows = [
        {"uid": ledger.uid, "lineage": n, "done": 0, "attempt": 0, "lost_attempts": 0, "turn": turn}
        for n in range(before, made.trials)
    ]
    session.execute(schema.lineage.insert(), rows)


def _refuse_unbegun(session: orm.Session, ledger: Ledger, draft: Draft) -> None:
    if not draft.begun:
        return
    waiting = session.scalar(
        sa.select(sa.func.min(_L.lineage)).where(
            ledger.scope.mine, _L.lineage.in_(list(draft.begun)), _L.trial.is_(None)
        )
    )
    if waiting is not None:
        raise SpecError(
            f"{draft.begun[waiting]} has not begun, and the file no longer has or allows it; let "
            "it run first, or keep it in [[trials]] and in the space"
        )
