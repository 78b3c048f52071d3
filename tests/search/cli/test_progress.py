"""What a terminal shows of a study."""

import contextlib
import io
import threading
from dataclasses import replace

from optuna.trial import TrialState
from rich.console import Console
from toy import Toy

from search.cli.pair_text import print_pair
from search.cli.progress import (
    PlainProgress,
    Redrawn,
    _LiveProgress,
    make_progress,
    make_status,
)
from search.cli.tables import print_best, print_status, print_trials
from search.study.views.trial_pair import pair_of
from search.text import figure
from search.worker.worker import work

NAMED = """
[[trials]]
name = "the first"
params = { x = 0.25 }
"""


def shown(what, width=80):
    """The lines of something drawn, as a terminal of that width gets them."""
    console = Console(width=width, height=40, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get().splitlines()


class Looking(Toy):
    """Looks at its own study while a trial of it runs."""

    look = staticmethod(lambda: None)

    def run(self, run):
        value = super().run(run)
        self.look()
        return value


def test_names_of_trials_are_shown_beside_their_parameters(make_study, capsys):
    study = make_study(f"{__name__}:Looking", trials=1, space="", extra=NAMED)
    seen = []

    def look():
        seen.append(study.status())
        print_trials(study)

    study.problem.look = look
    work(study, name="w", stop=threading.Event())
    (running,) = seen
    assert "the first x=0.25" in shown(make_status(running))[-1]
    assert running.state == "1 running"
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == ["0", "running", "4", "the", "first", "x=0.25"]  # no time, as it has not ended
    ended = study.status()
    assert ended.state == "finished"
    assert any("trial 0  the first x=0.25" in line for line in shown(make_status(ended)))
    print_best(study)
    assert capsys.readouterr().out.startswith("trial 0 (the first): value 0.")


def test_what_is_redrawn_leaves_room_for_what_ctrl_c_writes(make_study):
    long = NAMED.replace("the first", "a long name " * 6)
    study = make_study(f"{__name__}:Looking", trials=1, space="", extra=long)
    seen = []
    study.problem.look = lambda: seen.append(study.status())
    work(study, name="w", stop=threading.Event())
    assert max(map(len, shown(make_status(seen[0])))) == 80
    assert max(map(len, shown(Redrawn(make_status(seen[0]))))) == 76


def test_the_live_table_says_that_workers_start(make_study):
    study = make_study(trials=1)
    before = study.status()
    work(study, name="w", stop=threading.Event())
    for status, said in ((before, True), (study.status(), False)):
        terminal = io.StringIO()
        with _LiveProgress(Console(file=terminal, force_terminal=True)) as progress:
            progress.update(status)
        assert ("the workers are starting" in terminal.getvalue()) is said


def test_what_ended_stays_above_the_live_table(make_study):
    study = make_study(trials=2)
    before = study.status()
    work(study, name="w", stop=threading.Event())
    terminal = io.StringIO()
    with _LiveProgress(Console(file=terminal, force_terminal=True)) as progress:
        progress.update(before)
        progress.update(study.status())
        progress.update(study.status())
    for trial in study.trials:
        assert (
            terminal.getvalue().count(f"trial {trial.number} complete {figure(trial.value)}") == 1
        )


def test_the_state_of_a_study_in_a_word(make_study):
    study = make_study(
        "toy:Failing", trials=20, space='how = { choice = ["error"] }\nx = { float = [0, 1] }'
    )
    assert study.status().state == "nobody at work"
    with contextlib.suppress(Exception):
        work(study, name="w", stop=threading.Event())
    assert study.status().state == "halted"
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}


def test_no_time_is_foretold_while_nobody_is_at_work(make_study):
    study = make_study(trials=3)
    claim = study.ledger.claim("w")
    assert claim is not None
    running = study.status()
    ended = replace(running, ended=1, elapsed_seconds=30.0)
    assert "about 1:00 left" in shown(make_status(ended))[0]
    nobody = "\n".join(shown(make_status(replace(ended, running=()))))
    assert "left" not in nobody
    assert "nobody at work" in nobody


ODD = 'x = { float = [0.0, 1.0] }\nc = { choice = ["[/data] :smile: [red]", "b"] }'
ODD_FIRST = "[[trials]]\nname = 'one [/b]'\nparams = { x = 0.5, c = '[/data] :smile: [red]' }"


def test_no_name_and_no_value_is_taken_for_markup(make_study, capsys):
    study = make_study(trials=1, space=ODD, extra=ODD_FIRST)
    work(study, name="w", stop=threading.Event())
    print_trials(study)
    print_status(study.status())
    print_pair(pair_of(study, 0, 0))
    assert capsys.readouterr().out.count("[/data] :smile: [red]") == 3


def test_what_is_no_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as continuous integration sets it
    assert isinstance(make_progress(), PlainProgress)
