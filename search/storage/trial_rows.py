"""Statements on Optuna's trial tables, on a transaction of the caller's.

Optuna's `RDBStorage` commits each of its calls and asks before each statement whether the trial may
change. The ledger must change its row and the trial together or not at all; and a trial's reports
should cost one statement each. The tables are Optuna's own definitions, so these statements follow
its schema; `open_storage` refuses a database of another version.
"""

import copy
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search import attributes
from search.storage.optuna_tables import models
from search.text import shorten

__all__ = [
    "MOST_CHARACTERS",
    "Writes",
    "add_trial",
    "check_study",
    "finish_trial",
    "lock_running",
    "read_trials",
    "utc",
]

_STUDIES = models.StudyModel.__table__
_TRIALS = models.TrialModel.__table__
_PARAMS = models.TrialParamModel.__table__
_VALUES = models.TrialValueModel.__table__
_STEPS = models.TrialIntermediateValueModel.__table__
_USER = models.TrialUserAttributeModel.__table__
_SYSTEM = models.TrialSystemAttributeModel.__table__

MOST_CHARACTERS = 16_000  # of a text in a user attribute: an error, a traceback

_distribution = lru_cache(maxsize=4096)(json_to_distribution)


@dataclass
class Writes:
    """What is to be written to one RUNNING trial."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    steps: dict[int, float] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

    def apply(
        self,
        session: orm.Session,
        study_id: int,
        trial_id: int,
        seen: dict[str, BaseDistribution] | None = None,
    ) -> None:
        """Write all of it; a parameter that has a value keeps it.

        Args:
            seen: the distributions known to be in the study; new ones are added. None: whatever
                they are, these are right.

        Raises:
            ValueError: a distribution does not fit the one that the study has for that parameter.
        """
        if seen is not None:
            self._check_distributions(session, study_id, seen)
        _put(session, _PARAMS, "param_name", trial_id, _param_rows(self.params))
        _put(session, _STEPS, "step", trial_id, _step_rows(self.steps))
        _put(session, _USER, "key", trial_id, _attr_rows(_bounded(self.user_attrs)))
        _put(session, _SYSTEM, "key", trial_id, _attr_rows(self.system_attrs))

    def _check_distributions(
        self, session: orm.Session, study_id: int, seen: dict[str, BaseDistribution]
    ) -> None:
        for name, (_, distribution) in self.params.items():
            if name not in seen:
                stored = session.scalar(
                    sa.select(_PARAMS.c.distribution_json)
                    .join(_TRIALS, _TRIALS.c.trial_id == _PARAMS.c.trial_id)
                    .where(_TRIALS.c.study_id == study_id, _PARAMS.c.param_name == name)
                    .limit(1)
                )
                seen[name] = distribution if stored is None else _distribution(stored)
            check_distribution_compatibility(seen[name], distribution)

    def applied_to(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial as it stands after the writing; the given one is left as it is."""
        new = copy.copy(trial)
        new.distributions = {**{n: d for n, (_, d) in self.params.items()}, **trial.distributions}
        values = {n: d.to_external_repr(value) for n, (value, d) in self.params.items()}
        new.params = {**values, **trial.params}
        new.intermediate_values = {**trial.intermediate_values, **self.steps}
        new.user_attrs = {**trial.user_attrs, **self.user_attrs}
        new.system_attrs = {**trial.system_attrs, **self.system_attrs}
        return new


def check_study(connection: sa.Connection, study_id: int) -> None:
    """Raise KeyError unless the study exists."""
    found = connection.scalar(sa.select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id))
    if found is None:
        raise KeyError(models.NOT_FOUND_MSG)


def lock_running(session: orm.Session, trial_id: int, *, lease: Sequence[int] | None = None) -> int:
    """Keep others from changing a RUNNING trial until the commit; the id of its study.

    Args:
        lease: the writer's, [lineage, attempt]; None for a writer without one.

    Raises:
        KeyError: there is no such trial.
        UpdateFinishedTrialError: it is finished, or goes on under a later lease, so this writer
            can no longer change it.
    """
    columns = (_TRIALS.c.study_id, _TRIALS.c.number, _TRIALS.c.state)
    which: sa.Select[Any] = sa.select(*columns).where(_TRIALS.c.trial_id == trial_id)
    if lease is not None:
        # Locked with it: else a claim that commits while this waits would be overlooked.
        which = (
            which.add_columns(_SYSTEM.c.value_json)
            .join(_SYSTEM, _SYSTEM.c.trial_id == _TRIALS.c.trial_id)
            .where(_SYSTEM.c.key == attributes.LEASE)
        )
    row = session.execute(which.with_for_update()).one_or_none()
    if row is None:
        raise KeyError(models.NOT_FOUND_MSG)
    if row.state.is_finished():
        raise UpdateFinishedTrialError(f"trial {row.number} has finished and can no longer change")
    if lease is not None and json.loads(row.value_json) != list(lease):
        raise UpdateFinishedTrialError(f"trial {row.number} goes on in another worker")
    return int(row.study_id)


def utc(time: datetime) -> datetime:
    """One of Optuna's local times as UTC, in which times can be subtracted and put in order.

    The storage sets `fold`, so the hour that a clock shows twice is not ambiguous.
    """
    return time.astimezone(UTC)


def add_trial(session: orm.Session, study_id: int, trial: FrozenTrial) -> None:
    """Add a trial as it is, and tell it its number and id."""
    # Numbers are counted, so two transactions must not count at once.
    session.execute(
        sa.select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id).with_for_update()
    ).one()
    same = sa.select(sa.func.count()).select_from(_TRIALS).where(_TRIALS.c.study_id == study_id)
    row = session.execute(
        _TRIALS.insert()
        .values(
            study_id=study_id,
            number=same.scalar_subquery(),
            state=trial.state,
            datetime_start=_to_utc(trial.datetime_start),
            datetime_complete=_to_utc(trial.datetime_complete),
        )
        .returning(_TRIALS.c.trial_id, _TRIALS.c.number)
    ).one()
    trial._trial_id, trial.number = int(row.trial_id), int(row.number)
    params = {
        name: (distribution.to_internal_repr(trial.params[name]), distribution)
        for name, distribution in trial.distributions.items()
    }
    _put(session, _PARAMS, "param_name", trial._trial_id, _param_rows(params))
    _put(session, _STEPS, "step", trial._trial_id, _step_rows(trial.intermediate_values))
    _put(session, _USER, "key", trial._trial_id, _attr_rows(_bounded(trial.user_attrs)))
    _put(session, _SYSTEM, "key", trial._trial_id, _attr_rows(trial.system_attrs))
    _put(session, _VALUES, "objective", trial._trial_id, _value_rows(trial.values or ()))


def finish_trial(
    session: orm.Session,
    trial_id: int,
    state: TrialState,
    *,
    value: float | Sequence[float] | None,
    user_attrs: Mapping[str, Any],
    steps: Mapping[int, float],
) -> None:
    """End a RUNNING trial that this session has locked; values with a NaN are none.

    SQLite keeps NaN as NULL, and Optuna refuses to read a finished trial's value of NULL.
    """
    given = value if isinstance(value, Sequence) else () if value is None else (value,)
    values = () if any(map(math.isnan, given)) else given
    _put(session, _STEPS, "step", trial_id, _step_rows(steps))
    _put(session, _USER, "key", trial_id, _attr_rows(_bounded(user_attrs)))
    _put(session, _VALUES, "objective", trial_id, _value_rows(values))
    session.execute(
        _TRIALS.update()
        .where(_TRIALS.c.trial_id == trial_id)
        .values(state=state, datetime_complete=datetime.now(UTC).replace(tzinfo=None))
    )


def read_trials(
    connection: sa.Connection,
    study_id: int,
    *,
    after: int = -1,
    also: Collection[int] = (),
    unless_running: Collection[int] = (),
    number: int | None = None,
) -> list[FrozenTrial]:
    """Trials of a study by id: those above `after`, those in `also`, or the one of that number.

    Args:
        unless_running: ids that are left out while their trial is RUNNING.
    """
    which: list[sa.ColumnElement[bool]] = [_TRIALS.c.study_id == study_id]
    old = [trial_id for trial_id in also if trial_id <= after]
    if number is not None:
        which.append(_TRIALS.c.number == number)
    elif after >= 0:
        # A range, which the databases look up; the choice within it alone has them scan the study.
        which.append(_TRIALS.c.trial_id >= min([after + 1, *old]))
        which.append(sa.or_(_TRIALS.c.trial_id > after, _TRIALS.c.trial_id.in_(old)))
    if unless_running:
        own = sa.and_(
            _TRIALS.c.trial_id.in_(list(unless_running)), _TRIALS.c.state == TrialState.RUNNING
        )
        which.append(~own)
    rows = connection.execute(sa.select(_TRIALS).where(*which).order_by(_TRIALS.c.trial_id)).all()
    if not rows:
        return []
    found = {row.trial_id: _frozen(row) for row in rows}
    _fill(connection, which, found)
    return list(found.values())


def _fill(
    connection: sa.Connection,
    which: Sequence[sa.ColumnElement[bool]],
    found: Mapping[int, FrozenTrial],
) -> None:
    def details(table: Any) -> list[tuple[FrozenTrial, Any]]:
        joined = table.join(_TRIALS, _TRIALS.c.trial_id == table.c.trial_id)
        key = next(iter(table.primary_key))
        statement = sa.select(table).select_from(joined).where(*which).order_by(key)
        # A trial that was added between two statements is left to the next read.
        return [
            (found[row.trial_id], row)
            for row in connection.execute(statement)
            if row.trial_id in found
        ]

    for trial, row in details(_PARAMS):
        distribution = _distribution(row.distribution_json)
        trial.distributions[row.param_name] = distribution
        trial.params[row.param_name] = distribution.to_external_repr(row.param_value)
    for trial, row in details(_STEPS):
        trial.intermediate_values[row.step] = (
            models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(
                row.intermediate_value, row.intermediate_value_type
            )
        )
    values: dict[int, dict[int, float]] = {}
    for trial, row in details(_VALUES):
        values.setdefault(trial._trial_id, {})[row.objective] = (
            models.TrialValueModel.stored_repr_to_value(row.value, row.value_type)
        )
    for trial_id, by_objective in values.items():
        found[trial_id].values = [by_objective[n] for n in sorted(by_objective)]
    for trial, row in details(_USER):
        trial.user_attrs[row.key] = json.loads(row.value_json)
    for trial, row in details(_SYSTEM):
        trial.system_attrs[row.key] = json.loads(row.value_json)


def _frozen(row: Any) -> FrozenTrial:
    return FrozenTrial(
        number=row.number,
        trial_id=row.trial_id,
        state=row.state,
        value=None,
        datetime_start=_to_local(row.datetime_start),
        datetime_complete=_to_local(row.datetime_complete),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _put(
    session: orm.Session, table: Any, key: str, trial_id: int, rows: Sequence[dict[str, Any]]
) -> None:
    """Insert rows of one trial; those that exist are replaced, but for parameters."""
    if not rows:
        return
    postgres = session.get_bind().dialect.name == "postgresql"
    statement = _upsert(table, key, tuple(rows[0]), postgres)
    session.execute(statement, [{"trial_id": trial_id, **row} for row in rows])


@lru_cache(maxsize=32)
def _upsert(table: Any, key: str, columns: tuple[str, ...], postgres: bool) -> Any:
    # A command that only reads loads no dialect but its own.
    dialect = import_module(f"sqlalchemy.dialects.{'postgresql' if postgres else 'sqlite'}")
    insert: Any = dialect.insert(table)
    if table is _PARAMS:
        return insert.on_conflict_do_nothing(index_elements=["trial_id", key])
    return insert.on_conflict_do_update(
        index_elements=["trial_id", key],
        set_={name: insert.excluded[name] for name in columns if name != key},
    )


def _param_rows(
    params: Mapping[str, tuple[float, BaseDistribution]],
) -> list[dict[str, Any]]:
    return [
        {"param_name": name, "param_value": value, "distribution_json": distribution_to_json(kind)}
        for name, (value, kind) in params.items()
    ]


def _step_rows(steps: Mapping[int, float]) -> list[dict[str, Any]]:
    stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    return [
        {"step": step, "intermediate_value": value, "intermediate_value_type": kind}
        for step, (value, kind) in ((step, stored(value)) for step, value in steps.items())
    ]


def _value_rows(values: Sequence[float]) -> list[dict[str, Any]]:
    stored = models.TrialValueModel.value_to_stored_repr
    return [
        {"objective": n, "value": value, "value_type": kind}
        for n, (value, kind) in enumerate(map(stored, values))
    ]


def _attr_rows(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]


def _bounded(value: Any) -> Any:
    """User attributes with each text in them cut to a length that a database takes easily."""
    if isinstance(value, str):
        return shorten(value, MOST_CHARACTERS)
    if isinstance(value, Mapping):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return value


def _to_utc(time: datetime | None) -> datetime | None:
    """Optuna's trials carry local, naive times; its tables hold UTC."""
    return None if time is None else utc(time).replace(tzinfo=None)


def _to_local(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    # `astimezone` would not tell apart (`fold`) the hours that the end of summer time has twice.
    return datetime.fromtimestamp(time.replace(tzinfo=UTC).timestamp())  # noqa: DTZ006
