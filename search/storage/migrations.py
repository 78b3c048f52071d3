"""The version of the ledger's tables, and the steps that bring an older database forward.

Opening a database runs the missing steps in one transaction, under a lock: of several processes
that open it at once, one migrates and the others find it done. A step is written in SQL of its own
and never changes again, whatever `schema` becomes later.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState

from search import attributes
from search.address import shown
from search.errors import WrongVersion
from search.spec.overrides import Override, overridden
from search.storage import schema
from search.storage.optuna_tables import (
    studies,
    study_user_attrs,
    trial_system_attrs,
    trial_user_attrs,
    trials,
)

__all__ = ["HEAD", "migrate", "renamed_key"]

#: Identifies the lock among the advisory locks of a Postgres database; any number does.
_LOCK = 0x5EA2C4


def migrate(engine: sa.Engine) -> None:
    """Create the ledger's tables, or bring them to the version that this program needs.

    Optuna's tables must exist.

    Raises:
        WrongVersion: a newer version of this program made the tables.
    """
    with engine.connect() as connection:
        if _version(connection) == HEAD:
            return
    with _alone(engine) as connection:
        found = _version(connection)
        if found == HEAD:  # another process was faster
            return
        if found is None:
            schema.metadata.create_all(connection)
        elif found > HEAD:
            raise WrongVersion(
                f"{shown(engine.url.render_as_string(hide_password=False))} has the ledger's "
                f"tables in version {found}, this program knows versions up to {HEAD}; install the "
                "version that made them, or newer"
            )
        else:
            for step in _STEPS[found - 1 :]:
                step(connection)
            schema.version.create(connection, checkfirst=True)
        connection.execute(schema.version.delete())
        connection.execute(schema.version.insert().values(version=HEAD))


def _version(connection: sa.Connection) -> int | None:
    """The version of the tables; None where there are none."""
    there = sa.inspect(connection)
    if there.has_table(schema.version.name):
        return connection.scalar(sa.select(schema.version.c.version))
    return 1 if there.has_table(schema.study.name) else None  # the first version kept no number


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that keeps every other process from migrating until it ends."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection
        return
    # Python's driver begins no transaction before DDL, so this one is begun and ended by hand.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def _attempts_and_heartbeats(connection: sa.Connection) -> None:
    """To version 2: columns by the field's words, attempts as rows, tokens of measurements."""
    double = sa.Double().compile(dialect=connection.dialect)
    for statement in (
        "ALTER TABLE search_lineage RENAME COLUMN losses TO lost_attempts",
        "ALTER TABLE search_lineage RENAME COLUMN beat TO heartbeat",
        "DROP INDEX search_lineage_worker",
        "CREATE INDEX search_lineage_leased ON search_lineage (uid, lineage) "
        "WHERE worker IS NOT NULL",
        "CREATE INDEX search_lineage_free ON search_lineage (uid, (trial IS NULL), lineage) "
        "WHERE done = 0 AND worker IS NULL",
        "ALTER TABLE search_evaluation ADD COLUMN token VARCHAR(32)",
        "CREATE TABLE search_attempt (uid VARCHAR(32) NOT NULL, lineage INTEGER NOT NULL, "
        "attempt INTEGER NOT NULL, trial INTEGER NOT NULL, worker VARCHAR(255), "
        f"began {double} NOT NULL, ended {double}, how VARCHAR(32), "
        "PRIMARY KEY (uid, lineage, attempt))",
    ):
        connection.execute(sa.text(statement))
    for study_id, uid in _studies(connection):
        _rename_in_spec(connection, study_id, "workers", "beat_seconds", "heartbeat_seconds")
        _attempts_of_trials(connection, study_id, uid)


def _pauses(connection: sa.Connection) -> None:
    """To version 3: paused lineages, the steps at which they pause, the number of decisions."""
    for statement in (
        "ALTER TABLE search_lineage ADD COLUMN paused INTEGER DEFAULT '0' NOT NULL",
        "ALTER TABLE search_lineage ADD COLUMN pause_at INTEGER",
        "ALTER TABLE search_study ADD COLUMN decisions INTEGER DEFAULT '0' NOT NULL",
        "DROP INDEX search_lineage_free",
        "CREATE INDEX search_lineage_free ON search_lineage (uid, (trial IS NULL), lineage) "
        "WHERE done = 0 AND worker IS NULL AND paused = 0",
    ):
        connection.execute(sa.text(statement))


def _amendments(connection: sa.Connection) -> None:
    """To version 4: amendments as rows, lineages out of turn, studies paused or ended by a rule."""
    double = sa.Double().compile(dialect=connection.dialect)
    for statement in (
        f"ALTER TABLE search_study ADD COLUMN held_since {double}",
        "ALTER TABLE search_study ADD COLUMN ended_by TEXT",
        "ALTER TABLE search_lineage ADD COLUMN turn INTEGER DEFAULT '1' NOT NULL",
        "DROP INDEX search_lineage_free",
        "CREATE INDEX search_lineage_free ON search_lineage (uid, (trial IS NULL), turn, lineage) "
        "WHERE done = 0 AND worker IS NULL AND paused = 0",
        f"CREATE TABLE search_amendment (uid VARCHAR(32) NOT NULL, number INTEGER NOT NULL, "
        f"at {double} NOT NULL, spec TEXT NOT NULL, text TEXT NOT NULL, changes TEXT NOT NULL, "
        "hash VARCHAR(64) NOT NULL, trials INTEGER NOT NULL, given TEXT, "
        "token VARCHAR(32) NOT NULL, PRIMARY KEY (uid, number))",
    ):
        connection.execute(sa.text(statement))
    for study_id, uid in _studies(connection):
        _amendments_of_attribute(connection, study_id, uid)


_STEPS: tuple[Callable[[sa.Connection], None], ...] = (
    _attempts_and_heartbeats,
    _pauses,
    _amendments,
)

#: The version that this program needs; step n leads from version n to n + 1.
HEAD = len(_STEPS) + 1


def _studies(connection: sa.Connection) -> list[tuple[int, str]]:
    """The Optuna studies that have a ledger: their ids and uids."""
    attrs = study_user_attrs.c
    rows = connection.execute(
        sa.select(attrs.study_id, attrs.value_json)
        .join(studies, studies.c.study_id == attrs.study_id)
        .where(attrs.key == attributes.UID)
        .order_by(attrs.study_id)
    )
    return [(row.study_id, json.loads(row.value_json)) for row in rows]


def _rename_in_spec(
    connection: sa.Connection, study_id: int, table: str, old: str, new: str
) -> None:
    attrs = study_user_attrs.c
    here = (attrs.study_id == study_id, attrs.key == attributes.SPEC)
    stored = connection.scalar(sa.select(attrs.value_json).where(*here))
    if stored is None:  # a StudySearchCV's study
        return
    text = renamed_key(json.loads(stored), table, old, new)
    connection.execute(study_user_attrs.update().where(*here).values(value_json=json.dumps(text)))


def renamed_key(text: str, table: str, old: str, new: str) -> str:
    """TOML text with `table.old` renamed to `table.new`; all else, comments too, stays as it is.

    The text is returned as it is where the table has no such key.
    """
    content = tomllib.loads(text)
    if old not in content.get(table, {}):
        return text
    wanted = {**content, table: {new if k == old else k: v for k, v in content[table].items()}}
    # The same letters may stand in comments and strings: only the key itself gives this content.
    for found in re.finditer(re.escape(old), text):
        changed = text[: found.start()] + new + text[found.end() :]
        try:
            if tomllib.loads(changed) == wanted:
                return changed
        except tomllib.TOMLDecodeError:
            continue
    return text


def _attempts_of_trials(connection: sa.Connection, study_id: int, uid: str) -> None:
    """Rows of attempts, from the time in which each attempt had a trial of its own."""

    def attr(table: Any, key: str) -> Any:
        return (
            sa.select(table.c.value_json)
            .where(table.c.trial_id == trials.c.trial_id, table.c.key == key)
            .scalar_subquery()
        )

    found = connection.execute(
        sa.select(
            trials.c.number,
            trials.c.state,
            trials.c.datetime_start,
            trials.c.datetime_complete,
            attr(trial_system_attrs, attributes.LEASE).label("lease"),
            attr(trial_user_attrs, attributes.WORKER).label("worker"),
            attr(trial_user_attrs, attributes.REASON).label("reason"),
        )
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number)
    )
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for trial in found:
        if trial.lease is None or trial.datetime_start is None:  # made by another program
            continue
        lineage, attempt = json.loads(trial.lease)
        how = None
        if trial.state.is_finished():
            how = "elsewhere" if trial.state is TrialState.FAIL else trial.state.name.lower()
            how = how if trial.reason is None else json.loads(trial.reason)
        rows[lineage, attempt] = {
            "uid": uid,
            "lineage": lineage,
            "attempt": attempt,
            "trial": trial.number,
            "worker": None if trial.worker is None else json.loads(trial.worker),
            "began": _seconds(trial.datetime_start),
            "ended": None
            if how is None
            else _seconds(trial.datetime_complete or trial.datetime_start),
            "how": how,
        }
    if rows:
        insert = sa.text(
            "INSERT INTO search_attempt (uid, lineage, attempt, trial, worker, began, ended, how) "
            "VALUES (:uid, :lineage, :attempt, :trial, :worker, :began, :ended, :how)"
        )
        connection.execute(insert, list(rows.values()))


def _seconds(time: datetime) -> float:
    """Optuna's tables hold UTC without saying so."""
    return time.replace(tzinfo=UTC).timestamp()


def _amendments_of_attribute(connection: sa.Connection, study_id: int, uid: str) -> None:
    """Rows of amendments, from the user attribute that held them as a list."""
    attrs = study_user_attrs.c

    def stored(key: str) -> Any:
        here = (attrs.study_id == study_id, attrs.key == key)
        value = connection.scalar(sa.select(attrs.value_json).where(*here))
        return None if value is None else json.loads(value)

    old = "search:amendments"
    insert = sa.text(
        "INSERT INTO search_amendment (uid, number, at, spec, text, changes, hash, trials, token) "
        "VALUES (:uid, :number, :at, :spec, :text, :changes, :hash, :trials, :token)"
    )
    spec = stored(attributes.SPEC)
    for one in stored(old) or ():
        now = {"budget.trials": one["trials"], "budget.hours": one["hours"]}
        changes = {key: [before, now[key]] for key, before in one["replaced"].items()}
        overrides = [Override(path=tuple(key.split(".")), value=now[key]) for key in changes]
        spec = overridden(tomllib.loads(spec), overrides, "the stored study file")
        row = {key: one[key] for key in ("number", "text", "hash", "trials", "token")}
        at = datetime.fromisoformat(one["at"]).timestamp()
        row |= {"uid": uid, "at": at, "spec": spec, "changes": json.dumps(changes)}
        connection.execute(insert, row)
    connection.execute(
        study_user_attrs.delete().where(attrs.study_id == study_id, attrs.key == old)
    )
