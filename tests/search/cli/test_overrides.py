"""`create`, `plan` and `run` with `--set` and `--name`."""

import json

import pytest
from toy import toy_spec

from search.cli import app
from search.storage import open_storage
from search.study import open_study, study_names


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, sqlite_url):
    """Runs a command in a folder with `toy.toml`; the exit code, what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(toy_spec(trials=2))

    def call(*argv, storage=True):
        code = app.main([*argv, *(["--storage", sqlite_url] if storage else [])])
        out, err = capsys.readouterr()
        return code, out + err

    return call


def test_a_study_is_created_with_other_values_under_its_own_name(call, sqlite_url):
    assert call("create", "toy.toml")[0] == 0
    changed = ("create", "toy.toml", "--set", "budget.trials=5", "--set", "fixed.steps=2")
    code, out = call(*changed)
    assert (code, out.count("\n")) == (2, 1)
    assert "budget.trials: 2 in the study, 5 here" in out
    assert "fixed.steps: absent in the study, 2 here" in out
    assert "--name" in out
    assert call(*changed, "--name", "longer")[0] == 0
    assert call(*changed, "--name", "longer")[0] == 0  # the same content: the same study
    storage = open_storage(sqlite_url)
    assert study_names(storage) == ["longer", "toy"]
    longer = open_study("longer", storage)
    assert (longer.spec.trials, longer.spec.fixed) == (5, {"steps": 2})
    assert longer.checkpoints.address.endswith("runs/longer/checkpoints")
    storage.close()


def test_a_plan_is_of_the_changed_file(call):
    code, out = call("plan", "toy.toml", "--set", "budget.trials=7", "--json", storage=False)
    assert code == 0
    assert json.loads(out)["trials"] == 7


def test_the_spec_of_a_stored_study_is_not_changed(call):
    assert call("create", "toy.toml")[0] == 0
    code, out = call("run", "toy", "--set", "budget.trials=7")
    assert (code, out.count("\n")) == (2, 1)
    assert "whose spec is frozen; name the file" in out
    assert call("run", "toy", "--name", "other")[0] == 2


@pytest.mark.parametrize("bad", ["budget.trials", "fixed.a.b.c=[", "name=../up", "seed=-1"])
def test_a_wrong_value_is_one_line_that_names_the_key(call, bad, capsys):
    try:
        code, out = call("create", "toy.toml", "--set", bad)
    except SystemExit as left:
        code, out = left.code, "".join(capsys.readouterr())
    assert (code, out.count("\n")) == (2, 1)
    assert bad.split("=")[0].rpartition(".")[2] in out
