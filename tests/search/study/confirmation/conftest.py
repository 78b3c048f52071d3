"""A study that was searched and confirmed once, and a copy of it for each test."""

import shutil

import pytest
import sqlalchemy as sa
from confirmed_study import confirmed_spec

import search
from search.storage import open_storage
from search.study import open_study


@pytest.fixture
def url(sqlite_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return sqlite_url


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A database with a study that was searched and confirmed."""
    path = tmp_path_factory.mktemp("confirmed") / "studies.db"
    study = search.create(
        confirmed_spec(), storage=f"sqlite:///{path}", checkpoints=str(path.parent / "checkpoints")
    )
    search.work(study)
    study.storage.close()
    return path


@pytest.fixture
def confirmed(once, url):
    """The same study in a database of the test's own."""
    shutil.copy(once, sa.make_url(url).database)
    storage = open_storage(url)
    yield open_study("toy", storage)
    storage.close()
