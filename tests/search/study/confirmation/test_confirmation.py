"""The best trials of a search are trained again, as a study of its own, and the best mean wins."""

import json
import shutil
import threading

import numpy as np
import pytest
import scipy.stats
import sqlalchemy as sa
import toy
from optuna.trial import TrialState
from toy import toy_spec

import search
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.winner import image_problem
from search.cli import app
from search.errors import SearchError, SpecError
from search.ledger.by_hand import retry_failed
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.spec import parse_spec
from search.storage import open_storage
from search.study import create_study, open_study, study_names
from search.study.confirmation.make import confirming_study
from search.study.copy_study import copy_study
from search.worker.reproduce import reproduce
from search.worker.worker import work

CONFIRM = "[confirm]\ntop = 3\nseeds = 4\n"
DATA = "[data]\nscale = 1.0\n"  # so much noise that another trial than the search's best wins


def spec(*, confirm: str = CONFIRM, data: str = DATA, trials: int = 8, **options: str) -> str:
    return toy_spec(
        "toy:Noisy",
        trials=trials,
        extra=f'[sampler]\nname = "random"\n{confirm}{data}',
        **options,
    )


@pytest.fixture
def url(sqlite_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return sqlite_url


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A database with a study that was searched and confirmed."""
    path = tmp_path_factory.mktemp("confirmed") / "studies.db"
    study = search.create(
        spec(), storage=f"sqlite:///{path}", checkpoints=str(path.parent / "checkpoints")
    )
    search.work(study)
    study.storage.close()
    return path


@pytest.fixture
def confirmed(once, url):
    """The same study in a database of the test's own."""
    shutil.copy(once, sa.make_url(url).database)
    storage = open_storage(url)
    yield open_study("toy", storage)
    storage.close()


def stored_values(study, confirming):
    """Candidate -> the stored values of its repeats, straight from the names of the trials."""
    found = {}
    for trial in confirming.trials:
        if trial.state is TrialState.COMPLETE:
            _, number, _, repeat = trial.user_attrs["name"].split("-")
            found.setdefault(int(number), {})[int(repeat)] = trial.value
    return {number: [of[r] for r in sorted(of)] for number, of in found.items()}


def test_the_winner_and_the_figures_are_those_of_scipy(confirmed):
    study = confirmed
    confirming = open_study("toy-confirm", study.storage)
    values = stored_values(study, confirming)
    ranked = sorted(study.trials, key=lambda trial: -trial.value)[:3]
    assert set(values) == {trial.number for trial in ranked}
    assert confirming.ledger.counts().done == confirming.spec.trials == 12
    means = {number: np.mean(of) for number, of in values.items()}
    winner, best = max(means, key=means.get), ranked[0].number
    found = study.confirmation
    assert found.winner.trial == winner == study.best.number == study.pareto[0].number
    assert winner != best, "the test wants enough noise for another winner"
    assert found.rival.trial == best
    gains = np.subtract(values[winner], values[best])
    low, high = scipy.stats.t.interval(0.95, 3, gains.mean(), scipy.stats.sem(gains))
    difference = found.difference
    assert [difference.mean, difference.low, difference.high] == pytest.approx(
        [gains.mean(), low, high], rel=1e-12
    )
    assert found.flattered == pytest.approx(ranked[0].value - means[best], rel=1e-12)


def test_all_candidates_share_a_repeats_seed_and_split(confirmed):
    confirming = open_study("toy-confirm", confirmed.storage)
    problem = toy.Noisy({"scale": 1.0})
    seeds = set()
    for trial in confirming.trials:
        lineage = trial.user_attrs["lineage"]
        seed = confirming.spec.trial_seed(lineage)
        other = problem.reshuffled(lineage // 3)
        seeds.add((seed, other.split))
        assert trial.user_attrs["fingerprint"] == other.fingerprint()
        assert trial.value == other.curve(seed, confirming.params(trial)["x"])[-1]
        assert "duplicate_of" not in trial.user_attrs  # it repeats another one on purpose
    assert len(seeds) == 4
    assert {s for s, _ in seeds}.isdisjoint(confirmed.spec.trial_seed(n) for n in range(100))


def test_the_same_split_is_one_of_the_choices(url):
    study = search.create(spec(confirm=CONFIRM + 'splits = "same"\n'), storage=url)
    search.work(study)
    confirming = open_study("toy-confirm", study.storage)
    assert {trial.user_attrs["fingerprint"]["split"] for trial in confirming.trials} == {"None"}
    assert len(study.confirmation.candidates) == 3 and not study.confirmation.reshuffled
    study.storage.close()


def test_a_repeat_can_be_reproduced(confirmed):
    replay = reproduce(open_study("toy-confirm", confirmed.storage), 5)
    assert replay.identical


def test_equal_configurations_are_one_candidate(url):
    study = search.create(spec(trials=6, space="x = { choice = [0.25, 0.5] }"), storage=url)
    search.work(study)
    found = study.confirmation
    assert len(found.candidates) == 2
    assert {study.trial(one.trial).params["x"] for one in found.candidates} == {0.25, 0.5}
    study.storage.close()


def test_a_candidate_that_lacks_a_repeat_does_not_win_until_it_is_repeated(url):
    named = "".join(
        f'[[trials]]\nname = "{name}"\nparams = {{ x = {x} }}\n'
        for name, x in (("good", 5.0), ("fair", 3.0), ("poor", 1.0))
    )
    data = f"[data]\nbroken = 5.0\n{named}"
    study = search.create(
        toy_spec("toy:Noisy", trials=3, space="", extra=CONFIRM + data), storage=url
    )
    search.work(study)
    found = study.confirmation
    assert [one.mean is None for one in found.candidates] == [True, False, False]
    assert (found.over, found.winner.trial, found.rival.trial) == (True, 1, 2)
    assert found.flattered is None
    assert study.best.user_attrs["name"] == "fair"
    assert retry_failed(open_study("toy-confirm", study.storage).ledger) == 1
    assert study.confirmation.winner is None  # not over any more
    assert study.best.user_attrs["name"] == "good"  # the search's own
    study.storage.close()


def test_an_extension_makes_another_confirmation(confirmed):
    study, before = confirmed, confirmed.confirmation
    study.extend(trials=4)
    assert study.confirmation is None
    with pytest.raises(SearchError, match="after its search"):
        confirming_study(study)
    assert study.best.value == max(trial.value for trial in study.trials)
    search.work(study)
    after = study.confirmation
    assert (before.study, after.study) == ("toy-confirm", "toy-confirm-2")
    assert after.over and study_names(study.storage) == ["toy", "toy-confirm", "toy-confirm-2"]
    both = {one.trial: one.values for one in before.candidates}
    again = {one.trial: one.values for one in after.candidates}
    for trial in both.keys() & again.keys():  # the same seeds and splits, but another study's
        assert both[trial] == again[trial]
    confirming_study(study)
    assert len(study_names(study.storage)) == 3  # there already


def test_an_amendment_makes_another_confirmation_and_may_bring_the_table(url):
    study = search.create(spec(confirm=""), storage=url)
    search.work(study)
    assert (study.confirmation, study_names(study.storage)) == (None, ["toy"])
    made = study.amend(spec(confirm="[confirm]\n"))
    assert {key: now for key, (_, now) in made.changes.items()} == {
        "confirm.top": 4, "confirm.seeds": 3, "confirm.splits": "reshuffled"
    }  # fmt: skip
    search.work(study)
    assert len(study.confirmation.candidates) == 4
    study.amend(spec(confirm="[confirm]\nseeds = 2\n"))
    assert study.confirmation is None
    search.work(study)
    assert (study.confirmation.study, study.confirmation.repeats) == ("toy-confirm-2", 2)
    study.storage.close()


def test_another_best_trial_makes_another_confirmation(confirmed):
    study = confirmed
    study.add({"x": 1.0})
    work(study, name="w", stop=threading.Event())
    assert study.confirmation is None  # although the file is the same


def test_the_repeats_of_a_candidate_have_exactly_its_parameters(url):
    space = (
        'x = { float = [0.0, 0.1] }\nkind = { choice = ["a", "b", "c"] }\n'
        'depth = { int = [1, 3], when = { kind = "a" } }\n'
        'flag = { choice = [true, false], when = { kind = ["a", "b"] } }\n[fixed]\nz = "é"\n'
    )
    confirm = "[confirm]\ntop = 8\nseeds = 2\n"
    study = search.create(spec(space=f"{space}y = 1", confirm=confirm), storage=url)
    work(study, name="w", stop=threading.Event())
    study.amend(spec(space=f"{space}y = 2", confirm=confirm, trials=10))
    search.work(study)
    confirming = open_study("toy-confirm", study.storage)
    numbers = [int(trial.user_attrs["name"].split("-")[1]) for trial in confirming.trials]
    assert len(numbers) == 16
    assert {study.params(study.trial(number))["kind"] for number in numbers} == {"a", "b", "c"}
    for number, trial in zip(numbers, confirming.trials, strict=True):
        assert confirming.params(trial) == study.params(study.trial(number))
    study.storage.close()


def test_two_processes_make_one_confirmation(url):
    study = search.create(spec(), storage=url)
    work(study, name="w", stop=threading.Event())
    made, barrier = [], threading.Barrier(4)

    def make():
        storage = open_storage(url)
        own = open_study("toy", storage)
        barrier.wait()
        made.append(confirming_study(own).uid)
        storage.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and len(set(made)) == 1
    assert study_names(study.storage) == ["toy", "toy-confirm"]
    study.storage.close()


def test_a_name_that_is_taken_is_passed_over(url):
    storage = open_storage(url)
    create_study(parse_spec(toy_spec(name="toy-confirm"), where="s"), storage)
    study = search.create(spec(), storage=url)
    search.work(study)
    assert study.confirmation.study == "toy-confirm-2"
    study.storage.close()
    storage.close()


def test_a_search_without_a_complete_trial_has_nothing_to_confirm(url):
    failing = toy_spec(
        "toy:Failing",
        trials=2,
        space='how = { choice = ["diverged"] }',
        extra='[confirm]\ntop = 2\nsplits = "same"\n[fixed]\nx = 0.5\n',
    )
    study = search.create(failing, storage=url)
    search.work(study)
    assert confirming_study(study) is None
    study.storage.close()


def test_a_copy_takes_its_confirmation_along(confirmed, tmp_path):
    target = open_storage(f"sqlite:///{tmp_path / 'target.db'}")
    assert copy_study("toy", confirmed.storage, target) == 8
    copied = open_study("toy", target)
    assert copied.uid != confirmed.uid
    assert copied.confirmation == confirmed.confirmation
    assert copied.best.number == confirmed.best.number
    copied.extend(trials=2)
    search.work(copied)
    assert copied.confirmation.study == "toy-confirm-2"
    assert confirmed.confirmation.study == "toy-confirm"
    target.close()


@pytest.mark.slow
def test_on_postgres(postgres_url, url):
    study = search.create(spec(trials=4, confirm="[confirm]\ntop = 2\n"), storage=postgres_url)
    search.work(study)
    found = study.confirmation
    assert (found.over, found.trials, study.best.number) == (True, 6, found.winner.trial)
    target = open_storage(url)
    copy_study("toy", study.storage, target)
    assert open_study("toy", target).confirmation == found
    for storage in (target, study.storage):
        storage.close()


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
    (tmp_path / "more.toml").write_text(spec(confirm="[confirm]\ntop = 3\nseeds = 5\n"))
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
    text = spec(confirm=f"[confirm]\n{table}\n")
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


def test_delete_deletes_the_confirmation_too(confirmed, once, url, capsys):
    uids = {confirmed.uid, open_study("toy-confirm", confirmed.storage).uid}
    assert len(list((once.parent / "checkpoints").glob(f"{confirmed.uid}/*.checkpoint"))) == 5
    other = search.create(toy_spec(name="other"), storage=url)
    assert app.main(["delete", "toy", "--yes", "--storage", url]) == 0
    out = capsys.readouterr().out
    assert "study 'toy-confirm' was deleted: 12 trials" in out
    assert "study 'toy' was deleted: 8 trials" in out
    assert study_names(other.storage) == ["other"]
    left = [path.parent.name for path in (once.parent / "checkpoints").rglob("*.checkpoint")]
    assert not uids & set(left)
    other.storage.close()
