"""Optuna's RDB storage over an engine of ours.

RDBStorage's constructor makes an engine of its own, creates its tables and asks alembic for their
version, and importing alembic is a fifth of the time of a short command. It is called once, to
create the tables. A database that has the tables of this Optuna is then opened without it.
"""

from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import orm

from search.address import shown
from search.errors import StorageError
from search.storage.optuna_tables import models

__all__ = ["HEAD", "connect"]

#: The version of the tables of the Optuna that this project needs.
HEAD = "v3.2.0.a"


class _OnEngine(RDBStorage):
    """What RDBStorage's constructor leaves, with nothing asked of the database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.url = engine.url.render_as_string(hide_password=False)
        self.engine_kwargs = {}
        self.skip_compatibility_check = True
        self.heartbeat_interval = None
        self.grace_period = None
        self.heartbeat_stale_trial_callback = None
        self.failed_trial_callback = None
        self.engine = engine
        self.scoped_session = orm.scoped_session(orm.sessionmaker(bind=engine))


def connect(engine: sa.Engine, connect_args: dict[str, Any]) -> RDBStorage:
    """Optuna's storage on this engine; its tables are created where they are missing.

    Args:
        connect_args: of the connections that create the tables.

    Raises:
        StorageError: the tables are of another version of Optuna.
    """
    version = _version(engine)
    if version is None:
        _create(engine, connect_args)
        version = _version(engine)
    if version != HEAD:
        raise StorageError(
            f"{shown(engine.url.render_as_string(hide_password=False))} has Optuna's tables in "
            f"version {version}, this Optuna needs {HEAD}; use the Optuna that made it, or run "
            "`optuna storage upgrade`"
        )
    return _OnEngine(engine)


def _create(engine: sa.Engine, connect_args: dict[str, Any]) -> None:
    # Without AUTOINCREMENT, SQLite gives a new study the ids of one that was deleted, and a worker
    # or a page that still knows the old one takes the new one for it. Postgres never gives an id
    # twice.
    ours = sa.MetaData()
    for model in (models.StudyModel, models.TrialModel):
        table = model.__table__.to_metadata(ours)
        table.dialect_options["sqlite"]["autoincrement"] = True
    ours.create_all(engine)
    theirs = RDBStorage(
        engine.url.render_as_string(hide_password=False),
        engine_kwargs={"connect_args": connect_args, "poolclass": sa.pool.NullPool},
        skip_compatibility_check=True,
    )
    theirs.remove_session()
    theirs.engine.dispose()


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found
