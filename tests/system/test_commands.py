"""The generic verbs from end to end, and the line that each mistake gets."""

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
from importlib import metadata

import pytest
from watched_command import states

from fmnist_hpo import cli
from search.text import figure


@pytest.mark.slow
def test_run_status_trials_best_reproduce_and_run_again(command):
    file = command.study(trials=5)
    first = command("run", "toy.toml", "--workers", "2")
    assert (first.returncode, first.stderr) == (0, "")
    assert "5 of 5 trials ended" in first.stdout
    # The toy is no network: there is nothing to export, and who asks for it is told so.
    assert "only models of images can be exported" in command.error("export", "toy")
    status = command("status", "toy")
    assert "5/5" in status.stdout
    assert "complete 5 · pruned 0 · failed 0 · running 0" in status.stdout
    rows = list(csv.DictReader(io.StringIO(command("trials", "toy", "--csv").stdout)))
    assert [row["state"] for row in rows] == ["complete"] * 5
    best = json.loads(command("best", "toy", "--json").stdout)
    top = max(rows, key=lambda row: float(row["value"]))
    assert best["trial"] == int(top["number"])
    assert f"best trial  {best['trial']}: x=" in first.stdout
    assert best["params"]["x"] == float(top["param_x"])
    again = command("reproduce", "toy")
    assert again.returncode == 0
    assert "identical: 4 steps and the value" in again.stdout
    before = (command.directory / "runs" / "studies.db").stat().st_size
    second = command("run", str(file))
    assert "is finished: 5 of 5 trials ended" in second.stdout
    assert (command.directory / "runs" / "studies.db").stat().st_size == before


@pytest.mark.slow
def test_reproduce_tells_a_difference(command):
    command.study(trials=1)
    command("run", "toy.toml")
    with sqlite3.connect(command.directory / "runs" / "studies.db") as database:
        database.execute("update trial_values set value = value + 0.001")
        database.execute(
            'update trial_user_attributes set value_json = \'{"machine": "other"}\' '
            "where key = 'environment'"
        )
    database.close()
    done = command("reproduce", "toy")
    assert done.returncode == 3
    assert "different in the final value" in done.stdout
    assert "machine: other then, test now" in done.stdout


@pytest.mark.slow
def test_a_typo_in_the_problem_halts_the_run_and_shows_the_traceback_once(command):
    command.study(
        "toy:Failing", trials=20, space='how = { choice = ["error"] }\nx = { float = [0, 1] }'
    )
    done = command("run", "toy.toml", "--workers", "1")
    assert done.returncode == 2
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("error: study 'toy' was halted: ")
    assert len(list(csv.reader(io.StringIO(command("trials", "toy", "--csv").stdout)))) == 1 + 3


@pytest.mark.slow
def test_a_worker_joins_from_elsewhere(command):
    command.study(trials=3)
    created = command("create", "toy.toml")
    assert "study 'toy' is in sqlite:///runs/studies.db, 3 trials" in created.stdout
    joined = command("worker", "toy")
    assert joined.returncode == 0
    first, *_, last = joined.stdout.splitlines()
    assert "joins study 'toy', 0 of 3 trials ended" in first
    assert "leaves study 'toy', 3 of 3 trials ended" in last
    assert states(command) == {"COMPLETE": 3}


@pytest.mark.slow
def test_what_a_problem_prints_or_exits_with_is_no_message_of_the_worker(command):
    (command.directory / "leaving.py").write_text(
        "import os\nfrom toy import Toy\nclass Leaving(Toy):\n"
        "    def run(self, trial):\n        print('error: refused', flush=True)\n"
        "        os._exit(2)\n"
    )
    command.study("leaving:Leaving", trials=1, extra="[workers]\nmax_retries = 1")
    done = command("run", "toy.toml", "--workers", "1")
    assert done.returncode == 2
    assert done.stdout.count("with exit code 2; another takes its place") == 2
    assert "1 of 1 trials ended" in done.stdout
    assert "has no complete trial" in done.stderr


@pytest.mark.slow
def test_a_database_file_may_have_any_name(command):
    storage = ["--storage", "sqlite:///größe #1; 日.db"]
    command.study(trials=1)
    done = command("run", "toy.toml", "--workers", "1", *storage)
    assert "1 of 1 trials ended" in done.stdout, done.stdout + done.stderr
    assert (command.directory / "größe #1; 日.db").exists()
    assert "1/1" in command("status", "toy", *storage).stdout
    shown = "sqlite:///gr%C3%B6%C3%9Fe %231%3B %E6%97%A5.db"  # as `run` shows it
    assert "1/1" in command("status", "toy", "--storage", shown).stdout


@pytest.mark.slow
def test_a_terminal_that_knows_no_such_letters_is_told_what_it_can_show(command):
    command.study(trials=1, space='x = { float = [0, 1] }\nart = { choice = ["größe"] }')
    command.environment["PYTHONIOENCODING"] = "ascii"
    command("run", "toy.toml", "--workers", "1")
    for verb in (["status"], ["trials"], ["trials", "--csv"], ["best"]):
        shown = command.fresh(verb[0], "toy", *verb[1:])
        assert (shown.returncode, shown.stderr) == (0, "")
        assert r"gr\xf6\xdfe" in shown.stdout


@pytest.mark.slow
def test_status_without_a_study_lists_all_of_a_storage(command):
    assert "there is no storage" in command.error("status")
    command.study(trials=3)
    command("run", "toy.toml")
    command.study(name="later", trials=2)
    command("create", "toy.toml")
    best = json.loads(command("best", "toy", "--json").stdout)
    listed = command("status")
    assert (listed.returncode, listed.stderr) == (0, "")
    heads, later, toy = (re.split(r" {2,}", line.strip()) for line in listed.stdout.splitlines())
    assert heads == ["study", "state", "ended", "elapsed", "best", "trial", "metric"]
    assert later == ["later", "nobody at work", "0/2", "0:00", "value"]
    assert (toy[:3], toy[4:]) == (
        ["toy", "finished", "3/3"],
        [figure(best["value"]), str(best["trial"]), "value"],
    )
    assert "--watch follows one study, got none; name it" in command.error("status", "--watch")


@pytest.mark.slow
def test_copy_study_moves_trials_and_ledger(command):
    command.study(trials=4)
    command("run", "toy.toml")
    copied = command("copy-study", "toy", "--to", "sqlite:///other.db")
    assert copied.returncode == 0, copied.stderr
    mine, theirs = (command("trials", "toy", "--csv", "--storage", url).stdout
                    for url in ("sqlite:///runs/studies.db", "sqlite:///other.db"))  # fmt: skip
    assert mine == theirs
    assert "is finished" in command("run", "toy.toml", "--storage", "sqlite:///other.db").stdout
    assert "other.db" in command.error("copy-study", "toy", "--to", "sqlite:///other.db")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "none.toml"], "none.toml: it does not exist; check the path, or use one"),
        (["run", "toi.toml"], "toi.toml: it does not exist; did you mean toy.toml?"),
        (["run", "quik.toml"], "quik.toml: it does not exist; did you mean 'quick', which ships?"),
        (["run", "quikc"], "no study file and no study is called 'quikc'; did you mean 'quick'"),
        (["status", "quick"], "there is no storage sqlite:///runs/studies.db, so no study 'quick'"),
        (["run", "toy.toml", "--storage", "sqlite:///"], "an SQLite URL without a file"),
        (["run", "toy.toml", "--storage", "grpc://localhost:1"], "PgBouncer"),
        (["run", "toy.toml", "--storage", "mysql://u:pw@h/d"], "got one of kind 'mysql'"),
        (
            ["run", "toy.toml", "--storage", "postgresql://u:secret@127.0.0.1:1/d"],
            "cannot open postgresql+psycopg://u:***@127.0.0.1:1/d",
        ),
        (["run", "toy.toml", "--workers", "0"], "must be a whole number >= 1, got '0'"),
        (["run", "toy.toml", "--checkpoints", "ftp://x"], "to a directory or to s3://"),
        (["logs", "toy", "--trial", "x"], "argument --trial: must be a whole number >= 0, got 'x'"),
        (["rnu", "toy.toml"], "no command 'rnu'; did you mean `fmnist-hpo run`?"),
        (["export", "quick"], "there is no storage"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.png"], "nowhere"),
        (["data", "verify", "--data-dir", "nowhere"], "data directory nowhere does not exist"),
        (["dashboard"], "there is no storage"),
        (["dashboard", "--password-file", "nope"], "nope: No such file or directory; name a text"),
        (
            ["compare", "quick", "--csv", "nowhere/x.csv"],
            "cannot write nowhere/x.csv: nowhere is no folder",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, monkeypatch, capsys, argv, message):
    """In this process: twenty would take a minute to start. Other tests see real ones fail."""
    command.study(trials=1)
    monkeypatch.chdir(command.directory)
    monkeypatch.setenv("FMNIST_HPO_DATA", "")  # restored after the test; --data-dir sets it
    assert in_process(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def in_process(argv):
    """The exit code of a command in this process."""
    try:
        return cli.main(argv)
    except SystemExit as left:  # of the parser
        return left.code


@pytest.mark.slow
def test_nothing_finished_is_said(command):
    command.study(trials=1)
    command("create", "toy.toml")
    assert "has no complete trial to choose from" in command.error("best", "toy")
    assert "has no complete trial to choose from" in command.error("reproduce", "toy")
    assert "did you mean 'toy'" in command.error("status", "tyo")
    assert "did you mean 'toy'" in command.error("run", "tyo")
    assert "did you mean 'quick'" in command.error("run", "quikc")
    assert "; in the storage: toy" in command.error("run", "something")


@pytest.mark.slow
def test_a_changed_file_is_refused(command):
    path = command.study(trials=2)
    command("create", "toy.toml")
    path.write_text(path.read_text().replace("[0.0, 1.0]", "[0.0, 2.0]"))
    message = command.error("run", "toy.toml")
    assert "space.x.float: [0.0, 1.0] in the study, [0.0, 2.0] here" in message


def test_the_version(command):
    assert command("--version").stdout == f"fmnist-hpo {metadata.version('fmnist-hpo')}\n"


def test_every_verb_has_help_with_an_example(command, capsys):
    verbs = re.findall(r"^    (\S+)", command("--help").stdout, flags=re.M)
    known = "run create worker status trials best reproduce copy-study dashboard"
    assert {*known.split(), "export", "evaluate", "predict", "data", "doctor"} <= set(verbs)
    for verb in verbs:
        assert in_process([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"example:\n  fmnist-hpo {verb}" in shown
        options, _, _ = shown.partition("\nexample:")
        lines = [line for line in options.splitlines() if line.startswith("  ")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            said = re.search(r"\S {2,}\S", line) or following.startswith(" " * 8)
            assert said or line.startswith(" " * 8), f"{verb} does not say what {line} is"


def test_the_modules_run_as_commands() -> None:
    for module in ("search", "fmnist_hpo.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
        )
        assert "COMMAND" in done.stdout
