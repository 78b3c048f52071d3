"""Moves a study between storages: its trials, attributes, ledger and sealed measurements."""

import re
from copy import copy
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial
from sqlalchemy import orm

from search import attributes
from search.errors import SearchError
from search.ledger.ledger import Ledger
from search.storage import Storage, schema
from search.storage.study_rows import add_study, study_id_of
from search.storage.trial_rows import add_trial

__all__ = ["copy_study"]

_TABLES = (schema.study, schema.lineage, schema.evaluation)


def copy_study(name: str, source: Storage, target: Storage) -> int:
    """Copy a study in one transaction of the target: it is there whole, or not at all.

    The study keeps its uid, so its checkpoints are found at the same address; the source is left
    as it is, and nobody should go on with it.

    Returns:
        The number of trials.

    Raises:
        StudyNotFound: the source has no study of that name.
        SearchError: the target has one, or workers are at work in the source.
    """
    ledger = Ledger.open(source, name)
    ledger.reap()
    busy = sorted({row.worker for row in ledger.rows() if row.worker is not None})
    (study,) = (s for s in source.optuna.get_all_studies() if s.study_name == name)
    if busy:
        start = "start `run` or `worker`" if attributes.SPEC in study.user_attrs else "call `fit`"
        raise SearchError(
            f"a study is copied while nobody works on it, got {name!r} with "
            f"{len(busy)} at work ({', '.join(busy)}); stop them, or if they have died {start}, "
            "which takes their trials over, and stop that"
        )
    trials = source.optuna.get_all_trials(ledger.study_id, deepcopy=False)
    # optuna-dashboard keys these by the ids of trials, which the target gives anew
    system_attrs = {k: v for k, v in study.system_attrs.items() if not _of_a_trial(k)}
    rows = {table: source.read(_rows_of(table, ledger.uid)) for table in _TABLES}

    def work(session: orm.Session) -> int:
        if study_id_of(session, ledger.uid) is not None:
            raise SearchError(
                f"study {name!r} is in {target.url} already, under this or another name; "
                "delete it there first, or go on with it"
            )
        try:
            study_id = add_study(session, name, study.directions, study.user_attrs, system_attrs)
        except optuna.exceptions.DuplicatedStudyError as error:
            raise SearchError(
                f"{target.url} has another study named {name!r}; delete or rename that first"
            ) from error
        for trial in trials:
            _add(session, study_id, trial)
        for table, values in rows.items():
            session.execute(table.delete().where(table.c.uid == ledger.uid))
            if values:
                session.execute(table.insert(), values)
        return len(trials)

    def settled(session: orm.Session) -> int | None:
        return len(trials) if study_id_of(session, ledger.uid) is not None else None

    return target.write(work, settled=settled)


def _of_a_trial(key: str) -> bool:
    return re.match(r"dashboard:(artifacts:)?\d+:", key) is not None


def _rows_of(table: sa.Table, uid: str) -> Any:
    def read(session: orm.Session) -> list[dict[str, Any]]:
        found = session.execute(sa.select(table).where(table.c.uid == uid))
        return [dict(row._mapping) for row in found]

    return read


def _add(session: orm.Session, study_id: int, trial: FrozenTrial) -> None:
    number = trial.number
    copied = copy(trial)  # the source's cache holds the other
    add_trial(session, study_id, copied)
    if copied.number != number:
        raise SearchError(
            f"trials are numbered without gaps, got {number} where {copied.number} follows; "
            "a trial was deleted from the source by hand, so it cannot be copied"
        )
