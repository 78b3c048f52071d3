"""Statements on Optuna's study tables, on a transaction of the caller's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.study import StudyDirection
from sqlalchemy import orm

from search import attributes
from search.storage.optuna_tables import models

__all__ = ["add_study", "study_id_of"]


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


def study_id_of(session: orm.Session, uid: str) -> int | None:
    """The Optuna study that carries a uid."""
    attr = models.StudyUserAttributeModel
    return session.scalar(
        sa.select(attr.study_id).where(
            attr.key == attributes.UID, attr.value_json == json.dumps(uid)
        )
    )
