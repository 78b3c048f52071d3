"""What is refused stores nothing: no study, and no database."""

import pytest
from optuna.trial import TrialState
from toy import toy_spec

import search
from search.attributes import Reason
from search.cli import app
from search.cli.application import Application
from search.errors import SearchError
from search.study import study_names

REFUSED = {
    "the problem refuses a value": toy_spec(space="x = { float = [0.0, 200.0] }"),
    "the module is not there": toy_spec("nowhere:Problem"),
    "no earlier study can be there": toy_spec(extra='[prior]\nstudies = ["old"]\ntrials = 1'),
    "the earlier study is not in its storage": toy_spec(
        extra='[prior]\nstudies = ["gone@sqlite:///old.db"]\ntrials = 1'
    ),
}


class Wary(Application):
    """An application that has no room for the result of a run."""

    def check(self, spec, problem, study, args):
        raise SearchError(f"no room for {spec.name}, stored: {study is not None}")


def wary(*argv):
    return app.run_command(Wary(), "", app.GENERIC, argv)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_refused_study_file_leaves_no_database(text, tmp_path, make_study, capsys):
    make_study(storage="sqlite:///old.db", name="other")
    (tmp_path / "toy.toml").write_text(text)
    for command in ("run", "create"):
        assert app.main([command, "toy.toml", "--storage", "sqlite:///new/toy.db"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SearchError):
        search.create(text, storage="sqlite:///new/toy.db")
    assert not (tmp_path / "new").exists()


def test_looking_for_a_study_creates_no_database(tmp_path):
    with pytest.raises(search.StudyNotFound, match="no study named 'toy' in sqlite:///new/toy.db"):
        search.open("toy", storage="sqlite:///new/toy.db")
    assert not (tmp_path / "new").exists()


def test_a_run_whose_result_has_no_room_stores_no_study(tmp_path, make_study, capsys):
    (tmp_path / "toy.toml").write_text(toy_spec())
    assert wary("run", "toy.toml", "--storage", "sqlite:///new/toy.db") == 2
    assert capsys.readouterr().err == "error: no room for toy, stored: False\n"
    assert not (tmp_path / "new").exists()
    other = make_study(storage="sqlite:///old.db", name="other")
    assert wary("run", "toy.toml", "--storage", "sqlite:///old.db") == 2
    assert study_names(other.storage) == ["other"]
    assert wary("run", "other", "--storage", "sqlite:///old.db") == 2
    assert "no room for other, stored: True\n" in capsys.readouterr().err


def test_a_run_that_leaves_its_workers_needs_no_room(tmp_path, postgres_url, monkeypatch, capsys):
    (tmp_path / "toy.toml").write_text(toy_spec())
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm
    argv = ["run", "toy.toml", "--on", "slurm", "--workers", "1", "--storage", postgres_url]
    for option in ((), ("--detach",)):
        assert wary(*argv, *option) == 2
        assert "sbatch is not on this machine" in capsys.readouterr().err
    with pytest.raises(search.StudyNotFound):
        search.open("toy", storage=postgres_url)
    (tmp_path / "sbatch").touch(0o755)
    assert wary(*argv) == 2
    assert capsys.readouterr().err == "error: no room for toy, stored: False\n"
    assert wary(*argv, "--detach") == 2  # which comes as far as asking Slurm
    assert "sinfo is not on this machine" in capsys.readouterr().err
    assert wary(*argv, "--dry-run") == 0
    assert "#SBATCH" in capsys.readouterr().out


def test_a_copy_of_a_study_at_work_leaves_no_database(tmp_path, make_study, capsys):
    study = make_study(storage="sqlite:///old.db")
    assert study.ledger.claim("worker-7") is not None
    argv = ["copy-study", "toy", "--from", "sqlite:///old.db", "--to", "sqlite:///new/toy.db"]
    assert app.main(argv) == 2
    assert "at work (worker-7)" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_paused_study_that_is_not_run_keeps_its_failed_trials(make_study, capsys):
    study = make_study(storage="sqlite:///old.db")
    study.ledger.end(study.ledger.claim("w"), TrialState.FAIL, reason=Reason.ERROR)
    study.pause()
    assert app.main(["run", "toy", "--retry-failed", "--storage", "sqlite:///old.db"]) == 2
    assert "was paused" in capsys.readouterr().err
    assert study.ledger.counts().done == 1
