"""Names that stand for a study of StudySearchCV, or for a study where a study file is needed."""

from optuna.study import StudyDirection
from toy import toy_spec

from search import attributes
from search.cli import app
from search.ledger import Ledger
from search.storage import open_storage


def search_of_sklearn(url):
    """What StudySearchCV leaves in a storage, as far as commands look at it."""
    storage = open_storage(url)
    Ledger.create(
        storage,
        "iris",
        directions=[StudyDirection.MAXIMIZE],
        lineages=2,
        user_attrs={attributes.SKLEARN: {}},
    )
    storage.close()


def refused(capsys, *argv):
    assert app.main([*argv]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def test_a_storage_of_studies_without_files_is_not_empty(tmp_path, capsys):
    storage = ["--storage", "sqlite:///own.db"]
    search_of_sklearn(storage[1])
    dashboard = "`python -m search dashboard --storage sqlite:///own.db`"
    line = refused(capsys, "status", *storage)
    assert "holds only 'iris', made by StudySearchCV" in line and dashboard in line
    line = refused(capsys, "status", "iris", *storage)
    assert "made by StudySearchCV" in line and dashboard in line
    open_storage("sqlite:///empty.db").close()
    assert "no study in" in refused(capsys, "status", "--storage", "sqlite:///empty.db")


def test_a_study_without_a_file_is_copied(capsys):
    search_of_sklearn("sqlite:///own.db")
    copy = ["copy-study", "iris", "--from", "sqlite:///own.db", "--to", "sqlite:///other.db"]
    assert app.main(copy) == 0
    assert "python -m search dashboard --storage sqlite:///other.db" in capsys.readouterr().out
    assert "has a study named 'iris' already" in refused(capsys, *copy)
    copy[1] = "irsi"
    assert "no study named 'irsi'" in refused(capsys, *copy)


def test_where_a_file_is_needed_a_stored_study_is_recognised(make_study, tmp_path, capsys,
                                                             monkeypatch):  # fmt: skip
    monkeypatch.setenv("FMNIST_HPO_STORAGE", "sqlite:///own.db")
    assert "no study file is called 'toy'; " in refused(capsys, "plan", "toy")
    assert not (tmp_path / "own.db").exists()
    make_study(storage="sqlite:///own.db")
    (tmp_path / "toy.toml").write_text(toy_spec())
    for argv in (["plan", "toy"], ["create", "toy"], ["amend", "toy", "toy"]):
        line = refused(capsys, *argv)
        assert "a study file is needed, got 'toy', the name of a study in sqlite:///own.db" in line
        assert "`python -m search status toy`" in line
    assert "no study file is called 'tyo'" in refused(capsys, "plan", "tyo")
