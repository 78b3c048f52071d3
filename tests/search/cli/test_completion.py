"""Completion of the command line, by a real bash; and the page on JSON names every command."""

import re
import subprocess
from pathlib import Path

import pytest

from fmnist_hpo.cli import commands as own
from fmnist_hpo.cli.app import main
from search.cli import app
from search.cli.application import Application

ROOT = Path(__file__).parents[3]


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    line = " ".join(words)
    code = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_fmnist_hpo; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
def test_bash_completes_commands_and_options(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    assert completed(script, "fmnist-hpo", "exp") == {"export"}
    assert "--prefer" in completed(script, "fmnist-hpo", "export", "--pre")
    assert "--trials" in completed(script, "fmnist-hpo", "extend", "--tri")


def test_zsh_gets_a_script_of_its_own(capsys):
    assert main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#compdef fmnist-hpo")
    assert "--prefer" in out


def test_a_shell_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        main(["completion", "fish"])
    assert left.value.code == 2
    assert "invalid choice: 'fish'" in capsys.readouterr().err


def test_a_module_has_no_name_to_complete(capsys):
    assert app.main(["completion", "bash"]) == 2
    assert "a shell completes the name of one program" in capsys.readouterr().err


def test_the_page_on_json_names_every_command_that_prints_it():
    packages = {**app.GENERIC, own.__name__: own.COMMANDS}
    parser = app._parser(Application(), "", packages)
    page = (ROOT / "docs" / "json.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    commands = "".join(row for row in rows if "--json" in row)
    for name, command in parser.commands.items():
        command.load()
        takes = any("--json" in action.option_strings for action in command._actions)
        assert bool(re.search(rf"`{name}\b", commands)) == takes, name
