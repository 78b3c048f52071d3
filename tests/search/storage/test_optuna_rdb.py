"""Optuna's storage without its constructor: the same state, the same tables, the same judgement."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from search.errors import StorageError
from search.storage import open_storage
from search.storage.optuna_rdb import HEAD


def test_the_state_and_the_tables_are_those_of_optunas_constructor(tmp_path: Path) -> None:
    theirs = RDBStorage(f"sqlite:///{tmp_path / 'theirs.db'}")
    storage = open_storage(f"sqlite:///{tmp_path / 'ours.db'}")
    ours = storage.optuna.rdb
    assert theirs.get_head_version() == theirs.get_current_version() == HEAD
    assert vars(ours).keys() == vars(theirs).keys() - {"_version_manager"}  # needs alembic
    their_tables, our_tables = (sa.inspect(one.engine).get_table_names() for one in (theirs, ours))
    assert set(their_tables) <= set(our_tables)
    with theirs.engine.connect() as one, ours.engine.connect() as other:
        for table in ("version_info", "alembic_version"):
            versions = sa.text(f"SELECT * FROM {table}")
            assert one.execute(versions).all() == other.execute(versions).all()
    storage.close()
    theirs.engine.dispose()


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


def test_tables_that_are_there_are_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    RDBStorage(url).engine.dispose()  # of plain Optuna
    code = (
        "import sys; from search.storage import open_storage; "
        f"assert open_storage({url!r}).optuna.get_all_studies() == []; "
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
