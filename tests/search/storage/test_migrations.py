"""Databases of earlier versions, made by the programs of their time, opened by this one.

`version_1/` and `version_2/` hold SQLite files and checkpoints. Both have "finished", and "halfway"
with trials that were stopped or lost and one whose worker has died since. Version 1 also has two
sealed measurements of "finished", and "cross-validated", a StudySearchCV's. `version_3/` holds
a file alone; its studies were extended, of which an attribute of the study kept a list.
"""

import re
import shutil
import sqlite3
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given
from optuna.storages._rdb import models
from optuna.trial import TrialState
from toy import whole_curve

import search
from search.errors import StorageError, WrongVersion
from search.ledger import Counts, Ledger
from search.ledger.measurements import measurements
from search.storage import Storage, migrations, open_storage, schema
from search.storage.migrations import renamed_key
from search.worker.worker import work

HERE = Path(__file__).parent


@pytest.fixture
def version() -> int:
    """Of the database; a test may give another."""
    return 1


@pytest.fixture
def old(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old file, beside its checkpoints, which the studies name relative to here."""
    shutil.copytree(HERE / f"version_{version}", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "studies.db"


@pytest.fixture(params=["sqlite", "postgres"])
def old_url(request: pytest.FixtureRequest, old: Path) -> str:
    """The old database, as it is and as its rows would lie in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{old}"
    url: str = request.getfixturevalue("postgres_url")
    open_storage(url).close()  # for Optuna's tables
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection, sqlite3.connect(old) as file:
        schema.metadata.drop_all(connection)
        file.row_factory = sqlite3.Row
        ours = [name for (name,) in file.execute(
            "SELECT sql FROM sqlite_master WHERE name LIKE 'search%' AND sql IS NOT NULL"
        )]  # fmt: skip
        for statement in ours:
            theirs_too = statement.replace("DOUBLE", "DOUBLE PRECISION")
            theirs_too = theirs_too.replace(", trial IS NULL,", ", (trial IS NULL),")
            connection.execute(sa.text(theirs_too))
        theirs = models.BaseModel.metadata.sorted_tables
        names = [table.name for table in theirs if table.name != "version_info"]
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'search%'"
        for name in [*names, *(name for (name,) in file.execute(tables))]:
            _copy(file, connection, name)
    engine.dispose()
    return url


def _copy(file: sqlite3.Connection, connection: sa.Connection, name: str) -> None:
    table = sa.Table(name, sa.MetaData(), autoload_with=connection)
    for row in file.execute(f"SELECT * FROM {name}"):
        times = {"datetime_start", "datetime_complete"}
        values = {
            key: datetime.fromisoformat(row[key]) if key in times and row[key] else row[key]
            for key in row.keys()  # noqa: SIM118 - iterating a row gives its values
        }
        connection.execute(table.insert().values(values))
    for column in table.primary_key:
        if column.autoincrement is True or column.server_default is not None:
            last = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(name, column.name)
            connection.execute(sa.select(sa.func.setval(sequence, last, False)))


@pytest.fixture
def storage(old_url: str) -> Iterator[Storage]:
    opened = open_storage(old_url)
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_tables_are_those_of_a_new_database(
    storage: Storage, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if storage.dialect == "sqlite":
        new = open_storage(f"sqlite:///{tmp_path / 'new.db'}")
        assert _shape(storage) == _shape(new)
        new.close()
        return
    server = request.getfixturevalue("postgres")
    url = server.create_database()
    new = open_storage(url)
    assert _shape(storage) == _shape(new)
    new.close()
    server.drop_database(url)


def _shape(storage: Storage) -> dict[str, object]:
    there = sa.inspect(storage.engine)
    tables: dict[str, object] = {
        name: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in there.get_columns(name)),
            there.get_pk_constraint(name)["constrained_columns"],
        )
        for name in there.get_table_names()
        if name.startswith("search_")
    }
    postgres = storage.dialect == "postgresql"
    catalog = "SELECT indexdef FROM pg_indexes" if postgres else "SELECT sql FROM sqlite_master"
    of_ours = "indexname" if postgres else "type = 'index' AND name"
    with storage.engine.connect() as connection:
        found = connection.scalars(sa.text(f"{catalog} WHERE {of_ours} LIKE 'search_%'"))
        tables["indexes"] = sorted(re.sub(r"[\s()]", "", text) for text in found if text)
    return tables


def test_what_was_recorded_is_there(storage: Storage) -> None:
    study = search.study.open_study("finished", storage)
    status = study.status()
    assert (status.ended, status.complete, status.pruned) == (4, 3, 1)
    assert study.spec.workers.heartbeat_seconds == 0.1
    assert '# between two "beats"' in study.spec.text
    assert study.spec.fixed["note"] == "[workers]\nbeat_seconds = 7\n"
    assert study.ledger.limits.max_retries == 2
    found = measurements(storage, study.uid)
    assert [(m.n, m.payload["accuracy"], m.at.tzinfo) for m in found] == [
        (1, 0.75, UTC),
        (2, 0.5, UTC),
    ]
    searched = Ledger.open(storage, "cross-validated")
    assert searched.counts().done == 4
    assert [(a.how, a.worker) for a in searched.attempts()] == [("complete", None)] * 4


def test_attempts_are_read_off_the_trials(storage: Storage) -> None:
    attempts = Ledger.open(storage, "halfway").attempts()
    assert [(a.lineage, a.attempt, a.trial, a.worker, a.how) for a in attempts] == [
        (0, 1, 0, "worker-1", "complete"),
        (1, 1, 1, "worker-1", "complete"),
        (2, 1, 2, "worker-2", "stopped"),
        (2, 2, 4, "worker-4", "stopped"),
        (2, 3, 5, "worker-5", None),
        (3, 1, 3, "worker-3", "lost"),
    ]
    assert all(a.began < a.ended for a in attempts if a.ended)
    assert attempts[0].began == datetime(2026, 11, 28, 14, 45, 39, 591923, UTC)


@pytest.mark.slow
def test_a_study_goes_on_to_its_exact_end(storage: Storage) -> None:
    study = search.study.open_study("halfway", storage)
    assert study.status().ended == 2
    work(study, name="new", stop=threading.Event())
    trials = study.trials
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert Counter(t.user_attrs["lineage"] for t in ended) == Counter(range(7))
    assert all(t.state.is_finished() for t in trials)
    retried = [t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs]
    failed = [t.number for t in trials if t.state is TrialState.FAIL]
    assert sorted(retried) == failed == [2, 3, 4, 5]
    for trial in ended:
        whole = whole_curve(
            study.spec.trial_seed(trial.user_attrs["lineage"]), trial.params["x"], 4
        )
        values = list(trial.intermediate_values.values())
        assert values == whole[: len(values)]


@pytest.mark.slow
@pytest.mark.parametrize("version", [2])
def test_a_study_of_version_2_goes_on_to_its_exact_end(storage: Storage) -> None:
    study = search.study.open_study("halfway", storage)
    assert search.study.open_study("finished", storage).status().ended == 3
    assert study.ledger.counts() == Counts(
        total=6, done=1, running=1, paused=0, free=4, begun=3, lost_attempts=1
    )
    before = study.ledger.attempts()
    work(study, name="new", stop=threading.Event())
    assert study.ledger.attempts()[: 1 + 5] == before[: 1 + 5]
    trials = study.trials
    ended = [t for t in trials if t.state is TrialState.COMPLETE]
    assert Counter(t.user_attrs["lineage"] for t in ended) == Counter(range(6))
    lost = [t.number for t in trials if t.state is TrialState.FAIL]
    assert sorted(t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs) == lost
    assert lost == [1, 3]
    for trial in ended:
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        assert list(trial.intermediate_values.values()) == whole_curve(seed, trial.params["x"], 4)


@pytest.mark.slow
@pytest.mark.parametrize("version", [3])
def test_a_study_that_version_3_extended_goes_on_to_its_exact_end(
    storage: Storage, tmp_path: Path
) -> None:
    study = search.study.open_study("halfway", storage, checkpoints=str(tmp_path / "checkpoints"))
    first, second = study.amendments
    assert first.changes == {"budget.trials": (4, 6), "budget.hours": (1.5, 2.0)}
    assert (second.text, second.replaced, second.trials) == (
        "budget.trials = 7\n", {"budget.trials": 6}, 7
    )  # fmt: skip
    assert first.hash == sha256(f"{study.spec.hash}\n{first.text}".encode()).hexdigest()
    assert second.at == datetime(2026, 11, 28, 22, 21, 57, 10988, UTC)
    assert (study.spec.trials, study.spec.hours, study.spec.control) == (7, 2.0, 1)
    assert "search:amendments" not in storage.optuna.get_study_user_attrs(study.ledger.study_id)
    study.extend(trials=1)
    study.add({"x": 0.5})
    work(study, name="new", stop=threading.Event())
    ended = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert Counter(t.user_attrs["lineage"] for t in ended) == Counter(range(9))
    numbers = {t.user_attrs["lineage"]: t.user_attrs.get("amendment") for t in ended}
    assert numbers == {0: None, 1: 2, **dict.fromkeys(range(2, 9), 4)}
    finished = search.study.open_study("finished", storage)
    assert finished.status().ended == finished.amendments[0].trials == 3


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_a_study_of_an_older_version_is_extended(storage: Storage) -> None:
    for name in ("halfway", "finished"):
        study = search.study.open_study(name, storage)
        before = study.status().budget
        study.extend(trials=2)
        work(study, name=f"new-{name}", stop=threading.Event())
        assert study.status().ended == before + 2
        amended = [t.user_attrs["lineage"] for t in study.trials if "amendment" in t.user_attrs]
        assert {before, before + 1} <= set(amended)


@pytest.mark.slow
def test_processes_that_open_it_at_once_migrate_it_once(old_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: open_storage(old_url), range(6)))
    for storage in opened:
        assert storage.read(lambda s: s.scalar(sa.select(schema.version))) == migrations.HEAD
        assert len(Ledger.open(storage, "halfway").attempts()) == 6
        storage.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sa.Connection) -> None:
        migrations._attempts_and_heartbeats(connection)
        raise ZeroDivisionError

    monkeypatch.setattr(migrations, "_STEPS", (fail,))
    with pytest.raises(StorageError, match="cannot open"):
        open_storage(old_url)
    monkeypatch.undo()
    storage = open_storage(old_url)
    assert len(Ledger.open(storage, "halfway").attempts()) == 6
    storage.close()


def test_a_newer_database_is_refused_in_one_line(storage_url: str) -> None:
    storage = open_storage(storage_url)
    storage.write(lambda session: session.execute(schema.version.update().values(version=99)))
    storage.close()
    secret = "" if storage_url.startswith("sqlite") else "&sslpassword=secret"
    with pytest.raises(WrongVersion, match=r"version 99, .* up to 4; install") as caught:
        open_storage(f"{storage_url}{secret}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("[workers]\nold = 1 # old\n", "[workers]\nnew = 1 # old\n"),
        ("# old = 2\n[workers]\n'old' = 1", "# old = 2\n[workers]\n'new' = 1"),
        ("workers = { a = 'old', old = 1 }", "workers = { a = 'old', new = 1 }"),
        ("workers.old = 1\nold = 2", "workers.new = 1\nold = 2"),
        ("[fixed]\nold = 3\n[workers]\ngold = 1", "[fixed]\nold = 3\n[workers]\ngold = 1"),
        ("[fixed]\nold = 3\n[workers]\na = 1\nold=2", "[fixed]\nold = 3\n[workers]\na = 1\nnew=2"),
    ],
)  # fmt: skip
def test_a_key_is_renamed_and_nothing_else(text: str, renamed: str) -> None:
    assert renamed_key(text, "workers", "old", "new") == renamed


WORDS = st.sampled_from(["old", "gold", "older", "new_", "a"])
VALUES = st.sampled_from(["1", '"old"', "'''\n[workers]\nold = 1\n'''", "[ 1, 2 ] # old = 3"])


@given(
    st.dictionaries(
        st.sampled_from(["workers", "fixed", "old"]), st.dictionaries(WORDS, VALUES), min_size=1
    )
)
def test_a_renamed_text_means_the_same(tables: dict[str, dict[str, str]]) -> None:
    text = "# old\n" + "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    before, after = tomllib.loads(text), tomllib.loads(renamed_key(text, "workers", "old", "new"))
    if "old" in before.get("workers", {}):
        before["workers"]["new"] = before["workers"].pop("old")
    assert after == before
