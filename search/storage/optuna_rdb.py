"""Optuna's RDB storage over an engine of ours.

RDBStorage's constructor makes an engine of its own, creates its tables and asks alembic for their
version. Alembic reads all its migrations for that, which is most of the time to open a database.
So the tables are created here; a test compares them with those of the constructor.
"""

import functools

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import orm

from search.address import shown
from search.errors import WrongVersion
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


def connect(engine: sa.Engine) -> RDBStorage:
    """Optuna's storage on this engine; its tables are created where they are missing.

    Raises:
        WrongVersion: the tables are of another version of Optuna.
    """
    with engine.connect() as connection:
        version = _version(connection)
    if version is None:
        version = _create(engine)
    if version != HEAD:
        address = shown(engine.url.render_as_string(hide_password=False))
        if not _has_studies(engine):  # many programs keep their version in such a table
            raise WrongVersion(
                f"{address} holds the tables of another program, in its version {version}; give "
                "a database of its own"
            )
        raise WrongVersion(
            f"{address} has Optuna's tables in version {version}, this Optuna needs {HEAD}; use "
            "the Optuna that made it, or run `optuna storage upgrade`"
        )
    return _OnEngine(engine)


def _create(engine: sa.Engine) -> str:
    """Create the tables in one transaction; return the version that they have then."""
    tables = _tables()
    information = tables.tables["version_info"]
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 begins none for CREATE TABLE
        version = _version(connection)
        if version is not None:  # somebody else was first
            return version
        information.create(connection, checkfirst=True)
        schema: int | None = connection.scalar(sa.select(information.c.schema_version))
        if schema not in (None, models.SCHEMA_VERSION):
            return f"{schema} (before alembic)"
        tables.create_all(connection)
        if schema is None:
            connection.execute(
                information.insert().values(
                    schema_version=models.SCHEMA_VERSION, library_version=optuna.__version__
                )
            )
        connection.execute(tables.tables["alembic_version"].insert().values(version_num=HEAD))
        return HEAD


@functools.cache
def _tables() -> sa.MetaData:
    """Optuna's tables, with one difference, and alembic's.

    Without AUTOINCREMENT, SQLite gives a new study the ids of one that was deleted, and a worker or
    a page that still knows the old one takes the new one for it. Postgres never gives an id twice.
    """
    tables = sa.MetaData()
    for table in models.BaseModel.metadata.sorted_tables:
        table.to_metadata(tables)
    for model in (models.StudyModel, models.TrialModel):
        tables.tables[model.__tablename__].dialect_options["sqlite"]["autoincrement"] = True
    number = sa.Column("version_num", sa.String(32), nullable=False)
    key = sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
    sa.Table("alembic_version", tables, number, key)
    return tables


def _has_studies(engine: sa.Engine) -> bool:
    there = sa.inspect(engine)
    return any(map(there.has_table, ("studies", "version_info")))


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found
