"""Names of commands: what is chosen, what is suggested, what is imported."""

import subprocess
import sys

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


@pytest.mark.slow
def test_no_help_imports_torch():
    names = [(package, name) for package, known in app.GENERIC.items() for name in known]
    names += [(own.__name__, name) for name in own.COMMANDS]
    modules = [f"{package}.{name.replace('-', '_')}" for package, name in names]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
