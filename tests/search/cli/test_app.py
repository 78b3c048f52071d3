"""Names of commands: what is chosen, what is suggested, what is imported."""

import shlex
import subprocess
import sys

import optuna
import pytest

from fmnist_hpo.cli import commands as own
from search.cli import app
from search.errors import nearest


def test_no_command_prints_the_help(capsys):
    assert app.main([]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert all(name in out for known in app.GENERIC.values() for name in known)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rnu", "run"), ("stauts", "status"), ("Run", "run"), ("copy_study", "copy-study"),
     ("copy", "copy-study"), ("continue", "resume"), ("dash", None), ("xyz", None)],
)  # fmt: skip
def test_a_wrong_name_gets_the_nearest(typed, meant, capsys):
    with pytest.raises(SystemExit) as left:
        app.main([typed, "x"])
    assert left.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: there is no command {typed!r}; ")
    assert line.count("\n") == 1
    hint = f"did you mean `python -m search {meant}`?" if meant else "it is one of new, plan, run"
    assert hint in line


@pytest.mark.parametrize("name", ["patience", "weight", "momentum_x"])
def test_a_name_that_is_not_near_gets_no_suggestion(name):
    assert nearest(name, ["optimizer", "epochs", "dropout", "hidden_units"]) is None


@pytest.mark.parametrize("name", ["a" * 5000 + ".toml", "a/" * 3000 + "a.toml", "a" * 5000])
def test_an_error_is_short_and_no_terminal_obeys_it(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argv in (["create", name], ["status", f"\x1b[31m{name}"], ["trials", "x", f"\x1b{name}"],
                 [f"\x9b{name}"], ["stop", "x", "--trial", "9" * 5000],
                 ["status", "x", "--storage", f"sqlite:///\x1b{name}"],
                 ["create", "x", "--set", f"a=[\x1b{name}"]):  # fmt: skip
        try:
            code = app.main(argv)
        except SystemExit as left:
            code = left.code
        assert code == 2
        line = capsys.readouterr().err
        assert len(line) < 5000
        assert line.endswith("\n")
        assert line[:-1].isprintable()


def in_process(redirection, *argv):
    """Exit code and standard error of a command in a shell."""
    command = f"{shlex.join([sys.executable, '-m', 'search', *argv])} {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_an_error_is_one_line_whatever_it_names(capsys, sqlite_url):
    optuna.create_study(storage=sqlite_url, study_name="two\nlines\r\nor three")
    assert app.main(["best", "other", "--storage", sqlite_url]) == 2
    assert r"it holds: two\nlines\nor three" in the_line(capsys)
    with pytest.raises(SystemExit, match="2"):
        app.main(["best", "other", "more\nwords"])
    assert r"unrecognized arguments: more\nwords" in the_line(capsys)


def the_line(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_a_standard_output_that_takes_nothing_is_one_line(make_study, sqlite_url):
    make_study(trials=1)
    for argv in (["status", "--help"], ["trials", "toy", "--csv", "--storage", sqlite_url],
                 ["status", "toy", "--storage", sqlite_url]):  # fmt: skip
        code, line = in_process(">/dev/full", *argv)
        assert code == 2
        assert line.startswith("error: cannot write to the standard output: No space left on dev")
        assert line.count("\n") == 1
        assert in_process(">&- 2>&- <&-", *argv) == (0, "")
    assert in_process("| true", *argv)[1] == ""


@pytest.mark.slow
def test_no_help_imports_torch():
    names = [(package, name) for package, known in app.GENERIC.items() for name in known]
    names += [(own.__name__, name) for name in own.COMMANDS]
    modules = [f"{package}.{name.replace('-', '_')}" for package, name in names]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
@pytest.mark.process
def test_a_current_folder_that_was_deleted_is_one_line(tmp_path):
    python = "import sys; from search.cli.app import main; sys.exit(main(sys.argv[1:]))"
    gone = f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -c "$0" "$@"'
    for argv, code, lines in (["--help"], 0, 0), (["status"], 2, 1):
        done = subprocess.run(
            ["bash", "-c", gone, python, *argv],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (code, lines), done.stderr


@pytest.mark.parametrize("command", ["run", "create", "worker"])
def test_an_empty_place_of_checkpoints_is_not_the_default(command, capsys):
    with pytest.raises(SystemExit) as left:
        app.main([command, "toy.toml", "--checkpoints", ""])
    assert left.value.code == 2
    assert "argument --checkpoints: must be a place, got ''" in capsys.readouterr().err
