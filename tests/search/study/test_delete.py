"""A study is deleted whole, and its neighbours in the same storage stay."""

import io
import threading

import optuna
import pytest
import sqlalchemy as sa
from ledger_clock import HandClock
from lost_answer import lost_in_commit
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from search.cli import app
from search.dashboard import Artifacts, Pictures
from search.errors import SearchError, StorageError, StudyNotFound
from search.ledger import Ledger
from search.ledger.by_hand import hold, retry_failed
from search.ledger.measurements import record
from search.storage import schema
from search.storage.optuna_tables import models
from search.study import open_study, study_names
from search.study.delete import Deletion, delete_study
from search.worker.worker import work

TABLES = [
    table
    for metadata in (models.BaseModel.metadata, schema.metadata)
    for table in metadata.sorted_tables
]


def rows(study):
    with study.storage.engine.connect() as connection:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table))
            for table in TABLES
        }


@pytest.fixture
def two(make_study, storage_url, tmp_path, monkeypatch):
    """The study `kept`, its rows while it was alone, and the study `toy` beside it."""
    monkeypatch.chdir(tmp_path)
    kept = made(make_study, storage_url, "kept")
    alone = rows(kept)
    return kept, alone, made(make_study, storage_url, "toy")


def made(make_study, url, name):
    study = make_study(trials=3, name=name, storage=url)
    work(study, name=f"w-{name}", stop=threading.Event())
    record(study.storage, study.uid, name, {"trial": 0}, again=False)
    pictures = Pictures(study.optuna, study.uid, Artifacts(study.storage.optuna))
    pictures.attach(study.trials[0], "curve.png", b"png")
    return study


@pytest.mark.slow
def test_nothing_of_it_is_left(two, storage_url, tmp_path, capsys):
    kept, alone, study = two
    folder = tmp_path / "runs" / "artifacts"
    (tmp_path / "note.txt").write_text("by hand")
    upload_artifact(
        artifact_store=FileSystemArtifactStore(folder),
        file_path=str(tmp_path / "note.txt"),
        study_or_trial=study.optuna,
    )
    checkpoints = tmp_path / "checkpoints"
    assert len(list(folder.iterdir())) == 3
    study.checkpoints.scoped("refit").save(0, b"refit", attempt=1, params={})
    assert app.main(["delete", "toy", "--yes", "--storage", storage_url]) == 0
    out = capsys.readouterr().out
    assert (
        "study 'toy' was deleted: 3 trials, 4 checkpoints, 2 artifacts, the record of "
        "1 measurement of its test set\n"
    ) in out
    assert rows(kept) == alone
    assert study_names(kept.storage) == ["kept"]
    assert [path.name for path in checkpoints.iterdir()] == [kept.uid]
    assert len(list((checkpoints / kept.uid).iterdir())) == 3
    assert len(list(folder.iterdir())) == 1
    assert app.main(["delete", "toy", "--yes", "--storage", storage_url]) == 2
    assert "no study named 'toy'" in capsys.readouterr().err


def test_it_is_refused_while_a_worker_is_alive(make_study, storage_url, capsys):
    study = make_study(trials=2, storage=storage_url)
    claim = study.ledger.claim("somebody")
    before = rows(study)
    assert app.main(["delete", "toy", "--yes", "--storage", storage_url]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "while nobody works on it, got 'toy' with 1 at work (somebody)" in err
    with pytest.raises(SearchError, match="while nobody works"):
        delete_study(study.ledger, "toy")
    assert rows(study) == before
    study.ledger.release(claim)
    assert app.main(["delete", "toy", "--yes", "--storage", storage_url]) == 0


@pytest.mark.slow
def test_a_lease_that_ran_out_keeps_nobody_from_it(make_study, storage_url):
    study = make_study(trials=2, storage=storage_url)
    study.ledger.claim("dead")
    with study.storage.engine.begin() as connection:
        connection.execute(schema.lineage.update().values(until=1.0))
    delete_study(study.ledger, "toy")
    assert study_names(study.storage) == []


@pytest.mark.slow
def test_an_answer_that_is_lost_deletes_it_once(two):
    kept, alone, study = two
    with lost_in_commit(study.storage):
        delete_study(study.ledger, "toy")
    assert rows(kept) == alone


@pytest.mark.slow
def test_without_a_terminal_it_asks_for_yes(two, storage_url, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("toy\n"))
    assert app.main(["delete", "toy", "--storage", storage_url]) == 2
    assert "needs a confirmation" in capsys.readouterr().err
    assert open_study("toy", two[0].storage).status().ended == 3


@pytest.mark.parametrize(("typed", "code"), [("toy", 0), ("toi", 2), ("", 2)])
def test_the_name_is_typed_again(make_study, sqlite_url, monkeypatch, capsys, typed, code):
    study = make_study(trials=1)
    terminal = io.StringIO(f"{typed}\n" if typed else "")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert app.main(["delete", "toy", "--storage", sqlite_url]) == code
    assert bool(study_names(study.storage)) == bool(code)
    if code:
        assert "nothing was deleted" in capsys.readouterr().err


def test_a_study_of_another_program_is_refused(sqlite_url, make_study, capsys):
    study = make_study()
    optuna.create_study(storage=study.storage.optuna, study_name="other")
    assert app.main(["delete", "other", "--yes", "--storage", sqlite_url]) == 2
    assert "was made by another program" in capsys.readouterr().err


def test_a_study_that_was_deleted_meanwhile_takes_nothing(make_study, storage_url, tmp_path):
    study = make_study(trials=3, storage=storage_url)
    second = Deletion(study.storage, "toy")
    assert Deletion(study.storage, "toy").carry_out()[0].name == "toy"
    with pytest.raises(StudyNotFound):
        second.carry_out()
    for late in (
        lambda: study.extend(trials=2),
        lambda: study.add({"x": 0.5}),
        lambda: retry_failed(study.ledger),
        lambda: hold(study.ledger),
        lambda: record(study.storage, study.uid, "toy", {}, again=False),
    ):
        with pytest.raises(StorageError, match="was deleted meanwhile; create it again"):
            late()
    left = rows(study)
    assert not any(left[table.name] for table in schema.metadata.sorted_tables if "uid" in table.c)


def test_a_lease_from_the_future_does_not_keep_a_study(make_study, storage_url):
    study = make_study(trials=3, storage=storage_url)
    clock = HandClock()
    ledger = Ledger.open(study.storage, "toy", clock=clock)
    assert ledger.claim("dead")
    with pytest.raises(SearchError, match="1 at work"):
        delete_study(ledger, "toy")
    clock.seconds -= 86_400  # the clock was put back
    delete_study(ledger, "toy")
