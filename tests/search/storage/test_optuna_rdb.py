"""Optuna's storage without its constructor: the same state, the same tables, the same judgement."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

from search.errors import StorageError, WrongVersion
from search.storage import open_storage
from search.storage.optuna_rdb import HEAD

if TYPE_CHECKING:
    from conftest import Postgres


def test_the_state_is_that_of_optunas_constructor(tmp_path: Path) -> None:
    theirs = RDBStorage(f"sqlite:///{tmp_path / 'theirs.db'}")
    storage = open_storage(f"sqlite:///{tmp_path / 'ours.db'}")
    assert theirs.get_head_version() == theirs.get_current_version() == HEAD
    # A manager of versions needs alembic.
    assert vars(storage.optuna.rdb).keys() == vars(theirs).keys() - {"_version_manager"}
    storage.close()
    theirs.engine.dispose()


def test_the_tables_are_those_of_optunas_constructor(
    storage_url: str, postgres: "Postgres"
) -> None:
    other_url = (
        f"{storage_url}-theirs" if storage_url.startswith("sqlite") else postgres.create_database()
    )
    theirs = RDBStorage(other_url.replace("postgresql:", "postgresql+psycopg:"))
    storage = open_storage(storage_url)
    their_tables = sa.inspect(theirs.engine)
    our_tables = sa.inspect(storage.engine)
    for name in their_tables.get_table_names():
        for ask in ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "indexes"):
            asked = f"get_{ask}"
            found = getattr(our_tables, asked)(name), getattr(their_tables, asked)(name)
            assert str(found[0]) == str(found[1]), (name, ask)
        checks = (
            {one["sqltext"] for one in tables.get_check_constraints(name)}
            for tables in (our_tables, their_tables)
        )
        assert next(checks) == next(checks), name
    with theirs.engine.connect() as one, storage.engine.connect() as other:
        for table in ("version_info", "alembic_version"):
            versions = sa.text(f"SELECT * FROM {table}")
            assert one.execute(versions).all() == other.execute(versions).all()
    storage.close()
    theirs.engine.dispose()


def test_what_a_killed_optuna_left_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    models.BaseModel.metadata.create_all(engine)
    storage = open_storage(f"sqlite:///{path}")
    assert storage.optuna.get_all_studies() == []
    storage.close()
    optuna.create_study(storage=f"sqlite:///{path}")  # judges the versions
    engine.dispose()


def test_tables_of_the_time_before_alembic_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE version_info (version_info_id INTEGER, schema_version INTEGER)")
        )
        connection.execute(sa.text("INSERT INTO version_info VALUES (1, 1)"))
    with pytest.raises(StorageError, match="in version 1 .before alembic., this Optuna needs"):
        open_storage(f"sqlite:///{path}")
    assert sa.inspect(engine).get_table_names() == ["version_info"]
    engine.dispose()


def test_no_id_is_given_twice(storage_url: str) -> None:
    storage = open_storage(storage_url)
    ids = []
    for _ in range(2):
        study = optuna.create_study(study_name="s", storage=storage.optuna)
        ids.append((study._study_id, study.ask()._trial_id))
        optuna.delete_study(study_name="s", storage=storage.optuna)
    storage.close()
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] != ids[1][1]


@pytest.mark.parametrize("version", ["v3.0.0.d", "v9.9.9.z"])
def test_tables_of_another_optuna_are_refused_and_left(storage_url: str, version: str) -> None:
    storage = open_storage(storage_url)
    with storage.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version}
        )
    storage.close()
    with pytest.raises(StorageError, match=rf"in version {version}, this Optuna needs {HEAD}; use"):
        open_storage(storage_url)
    with storage.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == version
    storage.close()


def test_the_tables_of_another_program_are_called_so(storage_url: str) -> None:
    """MLflow's, too, keep their version in alembic's table."""
    engine = sa.create_engine(storage_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('bd07f7e963c5')"))
    with pytest.raises(WrongVersion, match="of another program, in its version bd07f7e963c5; give"):
        open_storage(storage_url)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("exists", [True, False])
def test_no_opening_needs_alembic(tmp_path: Path, exists: bool) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    if exists:
        RDBStorage(url).engine.dispose()  # of plain Optuna
    code = (
        "import sys; from search.storage import open_storage; "
        f"assert open_storage({url!r}).optuna.get_all_studies() == []; "
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
