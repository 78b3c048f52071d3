"""What commands, report and errors say of a confirmation."""

import json
import threading

import pytest
from confirmed_study import confirmed_spec
from toy import toy_spec

import search
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.places import image_problem
from search.cli import app
from search.errors import SpecError
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.spec import parse_spec
from search.study import open_study
from search.worker.worker import work


def test_status_and_best_say_what_was_confirmed(confirmed, url, capsys):
    found, storage = confirmed.confirmation, ["--storage", url]
    assert app.main(["status", "toy", *storage]) == 0
    out = capsys.readouterr().out
    assert f"Confirmed: trial {found.winner.trial} with a mean value of" in out
    assert "The search flattered itself by" in out
    assert app.main(["best", "toy", *storage]) == 0
    assert capsys.readouterr().out.startswith(f"trial {found.winner.trial}: value ")
    for command in ("status", "best"):
        assert app.main([command, "toy", "--json", *storage]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["confirmation"]["winner"] == found.winner.trial
        assert record["confirmation"]["flattered"] == found.flattered
        assert len(record["confirmation"]["candidates"][0]["values"]) == 4
    assert record["trial"] == found.winner.trial
    confirmed.extend(trials=1)
    assert app.main(["status", "toy", *storage]) == 0
    assert "Confirmation: after the search the best 3 trials are" in capsys.readouterr().out
    work(confirmed, name="w", stop=threading.Event())
    assert app.main(["status", "toy", *storage]) == 0
    assert "Confirmation: not begun; `run toy` goes on with it." in capsys.readouterr().out


def test_the_report_shows_it(confirmed):
    report = StudyReport.of(confirmed, lambda params: 3)
    found = confirmed.confirmation
    assert report.chosen.number == found.winner.trial != report.best.number
    assert report.summary()[2].startswith(
        f"Confirmed: trial {found.winner.trial} with a mean value"
    )
    assert report.summary()[3].startswith("The search flattered itself by")
    (section,) = [one for one in make_sections(report) if one.title == "toy: configuration"]
    table = section.parts[-1]
    assert table.head[:3] == ("trial", "in the search", "mean of the repeats")
    assert [row[0] for row in table.rows] == [str(one.trial) for one in found.candidates]


def test_its_trials_are_no_models_to_export(confirmed):
    with pytest.raises(InputError, match="holds the repeats that confirm another study"):
        image_problem(open_study("toy-confirm", confirmed.storage))


def test_an_amendment_of_it_alone_says_what_to_do(confirmed, url, tmp_path, capsys):
    (tmp_path / "more.toml").write_text(confirmed_spec(confirm="[confirm]\ntop = 3\nseeds = 5\n"))
    assert app.main(["amend", "toy", "more.toml", "--yes", "--storage", url]) == 0
    out = capsys.readouterr().out
    assert "confirm.seeds 4 -> 5" in out
    assert "once its search is over, `python -m search run toy" in out
    assert "add --trials" not in out


def test_a_confirmation_is_not_run_by_its_name(confirmed, url, capsys):
    assert app.main(["run", "toy-confirm", "--storage", url]) == 2
    assert "run that one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "more", "rule"),
    [
        ("top = 9", "", "need at most 8, got 9; lower it"),
        ("top = 1", "", "confirm: top must be a whole number >= 2 and <= 100"),
        ("seeds = 1", "", "confirm: seeds must be a whole number >= 2"),
        ("seeds = 2.5", "", "confirm: seeds must be a whole number"),
        ('splits = "other"', "", "confirm: splits must be reshuffled or same"),
        ("sedes = 3", "", r"\[confirm\] has no key 'sedes'; did you mean 'seeds'?"),
        ("", 'mode = "cross-validation"', "got a cross-validation"),
        ("", 'metrics = [{ name = "a", direction = "minimize" }, { name = "b", direction = '
         '"minimize" }]', "got two metrics"),
        ("", f'name = "{"n" * 90}"', "at most 80 characters"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_when_the_file_is_read(table, more, rule):
    text = confirmed_spec(confirm=f"[confirm]\n{table}\n")
    key = more.partition(" = ")[0]
    gone = ("metric", "direction") if key == "metrics" else (key,)
    lines = [line for line in text.splitlines() if line.partition(" = ")[0] not in gone]
    with pytest.raises(SpecError, match=rule):
        parse_spec("\n".join([more, *lines]), where="toy.toml")


def test_a_problem_that_draws_no_other_splits_is_refused(url):
    with pytest.raises(SpecError, match="got 'toy:Toy' without the method reshuffled; write"):
        search.create(toy_spec(extra="[confirm]\n", trials=8), storage=url)


def test_reshuffle_needs_a_repeat():
    named = '[[trials]]\nname = "a"\nparams = { x = 1.0 }\nreshuffle = true'
    text = toy_spec("toy:Noisy", space="", trials=1, extra=named)
    with pytest.raises(SpecError, match="reshuffle needs a repeat, got none"):
        parse_spec(text, where="toy.toml")
