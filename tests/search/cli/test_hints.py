"""Commands in messages are whole: program, name, storage; nothing secret is in them."""

import shlex
import subprocess
import sys

import pytest
from toy import toy_spec

from search.cli import app
from search.cli.hints import complete, storage_option, storage_remark

NAMES = tuple(name for known in app.GENERIC.values() for name in known)


def test_a_command_with_options_gets_its_storage_too():
    done = complete("`run toy --retry-failed`", "p", NAMES, "sqlite:///a.db")
    assert done == "`p run toy --retry-failed --storage sqlite:///a.db`"


def test_a_command_gets_its_program_and_its_storage():
    done = complete("see `trials toy`; not `metric` or `x = 1`", "prog", NAMES, "sqlite:///a b.db")
    assert done == "see `prog trials toy --storage 'sqlite:///a b.db'`; not `metric` or `x = 1`"


@pytest.mark.parametrize(
    "message", ["`run --help` shows", "`new mine` writes", "`plan x.toml`", "as `run` does"]
)
def test_a_command_that_takes_no_storage_gets_none(message):
    assert complete(message, "p", NAMES, "sqlite:///a.db") == message.replace("`", "`p ", 1)


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@h/d", "postgresql://h/d?password=secret&user=u"]
)
def test_a_secret_is_left_to_the_environment(url):
    assert storage_option(url) == ' --storage "$FMNIST_HPO_STORAGE"'
    done = complete("`run toy`", "p", NAMES, url)
    assert done == '`p run toy --storage "$FMNIST_HPO_STORAGE"`'
    remark = storage_remark(url)
    assert remark is not None and "FMNIST_HPO_STORAGE" in remark and "secret" not in remark


def test_the_default_storage_is_not_repeated(monkeypatch):
    monkeypatch.setenv("FMNIST_HPO_STORAGE", "postgresql://u:secret@h/d")
    assert storage_option("postgresql://u:secret@h/d") == ""
    assert storage_remark("postgresql://u:secret@h/d") is None
    assert storage_option("sqlite:///x.db") == " --storage sqlite:///x.db"


@pytest.mark.slow
def test_every_command_in_a_message_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(toy_spec(trials=2))
    storage = ["--storage", "sqlite:///my studies.db"]
    hinting = [
        ["status", "toy", *storage],  # no such storage
        ["create", "toy.toml", *storage],
        ["best", "toy", *storage],  # no complete trial
        ["best", "none", *storage],
        ["copy-study", "toy", "--from", storage[1], "--to", "sqlite:///other.db"],
        ["stauts"],
    ]
    seen = set()
    for argv in hinting:
        try:
            app.main(argv)
        except SystemExit as left:
            assert left.code == 2
        out, err = capsys.readouterr()
        seen |= {line.split(": ", 1)[1] for line in out.splitlines() if ": python -m" in line}
        seen |= {part for part in err.split("`")[1::2] if part.startswith("python -m")}
    assert len(seen) >= 5, seen
    for line in seen:
        assert "..." not in line
        if " worker " in line:
            continue  # runs the study, as the next line does
        command = [sys.executable, *shlex.split(line)[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2 if line == "python -m search status" else 0), done.stderr
