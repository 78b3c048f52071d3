"""Statements on Optuna's study tables, on a transaction of the caller's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.study import StudyDirection
from sqlalchemy import orm

from search import attributes
from search.storage.optuna_tables import models
from search.text import is_unicode

__all__ = [
    "Marked",
    "add_study",
    "delete_study",
    "marked_studies",
    "study_attrs",
    "study_directions",
    "study_id_of",
    "study_names",
    "study_system_attrs",
]


def add_study(
    session: orm.Session,
    name: str,
    directions: Sequence[StudyDirection],
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> int:
    """Add an Optuna study; its id. Raises DuplicatedStudyError."""
    if models.StudyModel.find_by_name(name, session) is not None:
        raise optuna.exceptions.DuplicatedStudyError(name)
    study = models.StudyModel(
        study_name=name,
        directions=[
            models.StudyDirectionModel(objective=n, direction=direction)
            for n, direction in enumerate(directions)
        ],
    )
    session.add(study)
    try:
        session.flush()
    except sa.exc.IntegrityError as error:
        raise optuna.exceptions.DuplicatedStudyError(name) from error
    for model, attrs in (
        (models.StudyUserAttributeModel, user_attrs),
        (models.StudySystemAttributeModel, system_attrs),
    ):
        for key, value in attrs.items():
            session.add(model(study_id=study.study_id, key=key, value_json=json.dumps(value)))
    session.flush()
    return int(study.study_id)


def delete_study(session: orm.Session, study_id: int) -> None:
    """Delete an Optuna study with everything that belongs to it or to its trials."""
    tables = models.BaseModel.metadata.sorted_tables
    trial = models.TrialModel.__table__
    mine = sa.select(trial.c.trial_id).where(trial.c.study_id == study_id)
    for table in reversed(tables):
        if "trial_id" in table.c and table is not trial:
            session.execute(table.delete().where(table.c.trial_id.in_(mine)))
    for table in reversed(tables):
        if "study_id" in table.c:
            session.execute(table.delete().where(table.c.study_id == study_id))


def study_id_of(session: orm.Session, uid: str) -> int | None:
    """The Optuna study that carries a uid."""
    attr = models.StudyUserAttributeModel
    return session.scalar(
        sa.select(attr.study_id).where(
            attr.key == attributes.UID, attr.value_json == json.dumps(uid)
        )
    )


def study_attrs(session: orm.Session, name: str) -> tuple[int, dict[str, Any]] | None:
    """The id and the user attributes of the Optuna study of that name; None without any."""
    if "\0" in name or not is_unicode(name):
        return None  # no database can be asked for it
    study, attr = models.StudyModel, models.StudyUserAttributeModel
    study_id = session.scalar(sa.select(study.study_id).where(study.study_name == name))
    if study_id is None:
        return None
    rows = session.execute(sa.select(attr.key, attr.value_json).where(attr.study_id == study_id))
    return study_id, {row.key: json.loads(row.value_json) for row in rows}


def study_names(session: orm.Session) -> list[str]:
    """The names of all Optuna studies, sorted."""
    return sorted(session.scalars(sa.select(models.StudyModel.study_name)))


@dataclass(frozen=True)
class Marked:
    """An Optuna study with one of its user attributes; None where it has none of that key."""

    study_id: int
    name: str
    mark: Any


def marked_studies(session: orm.Session, key: str) -> list[Marked]:
    """Every Optuna study with its user attribute of that key, at one moment; the oldest first."""
    study, attr = models.StudyModel, models.StudyUserAttributeModel
    rows = session.execute(
        sa.select(study.study_id, study.study_name, attr.value_json)
        .join(attr, sa.and_(attr.study_id == study.study_id, attr.key == key), isouter=True)
        .order_by(study.study_id)
    )
    return [
        Marked(row.study_id, row.study_name, row.value_json and json.loads(row.value_json))
        for row in rows
    ]


def study_system_attrs(session: orm.Session, study_id: int) -> dict[str, Any]:
    """The system attributes of an Optuna study."""
    attr = models.StudySystemAttributeModel
    rows = session.execute(sa.select(attr.key, attr.value_json).where(attr.study_id == study_id))
    return {row.key: json.loads(row.value_json) for row in rows}


def study_directions(session: orm.Session, study_id: int) -> list[StudyDirection]:
    """The directions of an Optuna study, by objective."""
    objective = models.StudyDirectionModel
    return list(
        session.scalars(
            sa.select(objective.direction)
            .where(objective.study_id == study_id)
            .order_by(objective.objective)
        )
    )
