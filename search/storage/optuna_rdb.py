"""Optuna's RDB storage over an engine of ours, whose tables are usually there already.

RDBStorage creates its tables and asks alembic for their version each time it is made, and importing
alembic is a fifth of the time of a short command. Here a database that bears the version of this
Optuna is taken as it is; any other is Optuna's own to create or to judge.
"""

from functools import cached_property

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy import orm

from search.errors import StorageError

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

    @cached_property
    def _version_manager(self) -> _VersionManager:  # type: ignore[override]
        """Writes the version into tables that have none."""
        return _VersionManager(self.url, self.engine, self.scoped_session)


def connect(engine: sa.Engine) -> RDBStorage:
    """Optuna's storage on this engine; its tables are created where they are missing.

    Raises:
        StorageError: the tables are of another version of Optuna.
    """
    rdb = _OnEngine(engine)
    if _version(engine) == HEAD:
        return rdb
    for model in (models.StudyModel, models.TrialModel):
        # Else a new study gets the ids of one that was deleted, and whoever still has that in mind,
        # a worker, a page, takes the new one for it. Postgres never gives an id twice.
        model.__table__.dialect_options["sqlite"]["autoincrement"] = True
    models.BaseModel.metadata.create_all(engine)
    current, head = rdb.get_current_version(), rdb.get_head_version()
    if current != head:
        raise StorageError(
            f"{engine.url.render_as_string()} has Optuna's tables in version {current}, this "
            f"Optuna needs {head}; use the Optuna that made it, or run `optuna storage upgrade`"
        )
    return rdb


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found
