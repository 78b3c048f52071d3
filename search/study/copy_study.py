"""Copies a study to another storage: its trials, attributes, ledger and sealed measurements."""

import re
import uuid
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import orm

from search import attributes
from search.errors import SearchError
from search.ledger.ledger import Ledger
from search.storage import Storage, schema
from search.storage.study_rows import add_study, study_directions, study_id_of, study_system_attrs
from search.storage.trial_rows import add_trial, read_trials
from search.study.confirmation.find import confirmations

__all__ = ["StudyCopy", "copy_study"]

#: Where the rows of a study lie, by uid.
_TABLES = (schema.study, schema.lineage, schema.attempt, schema.amendment, schema.evaluation)


@dataclass(frozen=True, kw_only=True)
class _Content:
    """A study at one moment."""

    directions: list[StudyDirection]
    system_attrs: dict[str, Any]
    trials: list[FrozenTrial]
    rows: dict[sa.Table, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class StudyCopy:
    """A study and the studies that confirm it, as they were read, with uids of the copy's own."""

    uid: str
    _parts: Sequence[tuple[str, Mapping[str, Any], _Content]]  # name, user attributes, content

    @property
    def has_file(self) -> bool:
        """Whether the study has a study file; one of StudySearchCV has none."""
        return attributes.SPEC in self._parts[0][1]

    @classmethod
    def read(cls, name: str, source: Storage) -> "StudyCopy":
        """Read a study at one moment; the source is not changed.

        Raises:
            StudyNotFound: the source has no study of that name.
            SearchError: workers are at work on it, or one of its trials was deleted by hand.
        """
        uid = uuid.uuid4().hex
        ledger = Ledger.open(source, name)
        copied = [(name, ledger, {**ledger.attrs, attributes.UID: uid})]
        for one in confirmations(source, ledger.uid):
            confirming = Ledger.open(source, one.name)
            own = {attributes.UID: uuid.uuid4().hex, attributes.CONFIRMS: {**one.mark, "uid": uid}}
            copied.append((one.name, confirming, {**confirming.attrs, **own}))

        def read(session: orm.Session) -> list[_Content]:
            if source.dialect == "postgresql":  # SQLite's transactions are like that anyway
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return [_read(session, of, named) for named, of, _ in copied]

        contents = source.read(read)
        parts = [
            (named, attrs, content)
            for (named, _, attrs), content in zip(copied, contents, strict=True)
        ]
        return cls(uid=uid, _parts=parts)

    def write(self, target: Storage) -> int:
        """Write it in one transaction: it is there whole, or not at all.

        Returns:
            The number of trials, without those of confirmations.

        Raises:
            SearchError: the target has a study of that name.
        """
        _, _, first = self._parts[0]

        def work(session: orm.Session) -> int:
            for named, attrs, content in self._parts:
                _write(session, named, attrs, content, target.url)
            return len(first.trials)

        def settled(session: orm.Session) -> int | None:
            return len(first.trials) if study_id_of(session, self.uid) is not None else None

        return target.write(work, settled=settled)


def copy_study(name: str, source: Storage, target: Storage) -> int:
    """Copy a study in one transaction of the target: it is there whole, or not at all.

    The copy is another study with the same history. It has a uid of its own, so the two can go on
    side by side and share neither checkpoints nor bundles nor pictures. A trial that had not ended
    starts over in the copy, as its checkpoint stays with the source. The studies that confirm it
    come along. The source is only read.

    Returns:
        The number of trials, without those of confirmations.

    Raises:
        StudyNotFound: the source has no study of that name.
        SearchError: the target has one, or workers are at work in the source.
    """
    return StudyCopy.read(name, source).write(target)


def _write(
    session: orm.Session, name: str, user_attrs: Mapping[str, Any], content: _Content, url: str
) -> None:
    try:
        study_id = add_study(session, name, content.directions, user_attrs, content.system_attrs)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise SearchError(
            f"{url} has a study named {name!r} already; go on with it there, or copy to another "
            "storage"
        ) from error
    for trial in content.trials:
        # a repetition of the transaction needs the other as it was
        add_trial(session, study_id, copy(trial))
    for table, rows in content.rows.items():
        if rows:
            uid = user_attrs[attributes.UID]
            session.execute(table.insert(), [{**row, "uid": uid} for row in rows])


def _read(session: orm.Session, ledger: Ledger, name: str) -> _Content:
    """The study as it stands at one moment, for which nobody may be at work on it."""
    rows = {
        table: [
            dict(row._mapping)
            for row in session.execute(sa.select(table).where(table.c.uid == ledger.uid))
        ]
        for table in _TABLES
    }
    busy = sorted({row["worker"] for row in rows[schema.lineage] if row["worker"] is not None})
    if busy:
        start = "start `run` or `worker`" if attributes.SPEC in ledger.attrs else "call `fit`"
        raise SearchError(
            f"a study is copied while nobody works on it, got {name!r} with "
            f"{len(busy)} at work ({', '.join(busy)}); stop them, or if they have died {start}, "
            "which takes their trials over, and stop that"
        )
    trials = read_trials(session.connection(), ledger.study_id)
    for number, trial in enumerate(trials):
        if trial.number != number:
            raise SearchError(
                f"trials are numbered without gaps, got {trial.number} where {number} follows; "
                "a trial was deleted from the source by hand, so it cannot be copied"
            )
    system_attrs = study_system_attrs(session, ledger.study_id)
    return _Content(
        directions=study_directions(session, ledger.study_id),
        # optuna-dashboard keys some by the ids of trials, which are others in the target
        system_attrs={k: v for k, v in system_attrs.items() if not _of_a_trial(k)},
        trials=trials,
        rows=rows,
    )


def _of_a_trial(key: str) -> bool:
    return re.match(r"dashboard:(artifacts:)?\d+:", key) is not None
