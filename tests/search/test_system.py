"""On another system than Linux, the program says so in one line."""

import subprocess
import sys

import pytest

from search.errors import SearchError
from search.storage import open_storage

# A Python whose system is another one: its name, and no module that only Unix has.
ELSEWHERE = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog"):
            raise ModuleNotFoundError(name)
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize("command", ["search.cli.app", "fmnist_hpo.cli"])
@pytest.mark.parametrize("argv", [["status"], ["plan", "quick"], ["--help"], []])
def test_a_command_names_the_system_it_needs(command: str, argv: list[str]) -> None:
    code = (
        f"{ELSEWHERE}sys.platform = 'win32'\nfrom {command} import main\nsys.exit(main({argv!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: this program runs on Linux, got 'win32'; use a Linux machine, a container, or WSL "
        "on Windows\n"
    )


@pytest.mark.slow
def test_no_module_needs_a_module_of_unix_to_be_imported() -> None:
    modules = "search.plan.measure, search.worker.worker, search.supervisor.run, search.sklearn"
    own = "fmnist_hpo.bundle, fmnist_hpo.problem, fmnist_hpo.classical_problem"
    code = f"{ELSEWHERE}import {modules}, {own}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_storage_is_not_opened_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SearchError, match="runs on Linux, got 'darwin'"):
        open_storage(f"sqlite:///{tmp_path}/a.db")
    assert list(tmp_path.iterdir()) == []
