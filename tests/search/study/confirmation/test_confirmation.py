"""The best trials of a search are trained again, as a study of its own, and the best mean wins."""

import argparse
import threading

import numpy as np
import pytest
import scipy.stats
import toy
from confirmed_study import CONFIRM, confirmed_spec
from optuna.trial import TrialState
from toy import toy_spec

import search
from search.cli import app
from search.cli.commands import worker
from search.errors import SearchError
from search.ledger.by_hand import retry_failed
from search.spec import parse_spec
from search.storage import open_storage
from search.study import create_study, open_study, study_names
from search.study.confirmation.make import confirming_study
from search.study.copy_study import copy_study
from search.worker.contract import Left
from search.worker.reproduce import reproduce
from search.worker.worker import work


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
    study = search.create(confirmed_spec(confirm=CONFIRM + 'splits = "same"\n'), storage=url)
    search.work(study)
    confirming = open_study("toy-confirm", study.storage)
    assert {trial.user_attrs["fingerprint"]["split"] for trial in confirming.trials} == {"None"}
    assert len(study.confirmation.candidates) == 3 and not study.confirmation.reshuffled
    study.storage.close()


def test_a_repeat_can_be_reproduced(confirmed):
    replay = reproduce(open_study("toy-confirm", confirmed.storage), 5)
    assert replay.identical


@pytest.mark.slow
def test_equal_configurations_are_one_candidate(url):
    study = search.create(
        confirmed_spec(trials=6, space="x = { choice = [0.25, 0.5] }"), storage=url
    )
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


@pytest.mark.slow
def test_an_amendment_makes_another_confirmation_and_may_bring_the_table(url):
    study = search.create(confirmed_spec(confirm=""), storage=url)
    search.work(study)
    assert (study.confirmation, study_names(study.storage)) == (None, ["toy"])
    made = study.amend(confirmed_spec(confirm="[confirm]\n"))
    assert {key: now for key, (_, now) in made.changes.items()} == {
        "confirm.top": 4, "confirm.seeds": 3, "confirm.splits": "reshuffled"
    }  # fmt: skip
    search.work(study)
    assert len(study.confirmation.candidates) == 4
    study.amend(confirmed_spec(confirm="[confirm]\nseeds = 2\n"))
    assert study.confirmation is None
    search.work(study)
    assert (study.confirmation.study, study.confirmation.repeats) == ("toy-confirm-2", 2)
    study.storage.close()


def test_another_best_trial_makes_another_confirmation(confirmed):
    study = confirmed
    study.add({"x": 1.0})
    work(study, name="w", stop=threading.Event())
    assert study.confirmation is None  # although the file is the same


def test_another_refit_needs_no_other_confirmation(confirmed):
    study, before = confirmed, confirmed.confirmation
    study.amend(confirmed_spec() + "[refit]\ny = 1\n")
    assert study.confirmation == before
    assert study.status().over


@pytest.mark.slow
def test_the_repeats_of_a_candidate_have_exactly_its_parameters(url):
    space = (
        'x = { float = [0.0, 0.1] }\nkind = { choice = ["a", "b", "c"] }\n'
        'depth = { int = [1, 3], when = { kind = "a" } }\n'
        'flag = { choice = [true, false], when = { kind = ["a", "b"] } }\n[fixed]\nz = "é"\n'
    )
    confirm = "[confirm]\ntop = 8\nseeds = 2\n"
    study = search.create(confirmed_spec(space=f"{space}y = 1", confirm=confirm), storage=url)
    work(study, name="w", stop=threading.Event())
    study.amend(confirmed_spec(space=f"{space}y = 2", confirm=confirm, trials=10))
    search.work(study)
    confirming = open_study("toy-confirm", study.storage)
    numbers = [int(trial.user_attrs["name"].split("-")[1]) for trial in confirming.trials]
    assert len(numbers) == 16
    assert {study.params(study.trial(number))["kind"] for number in numbers} == {"a", "b", "c"}
    for number, trial in zip(numbers, confirming.trials, strict=True):
        assert confirming.params(trial) == study.params(study.trial(number))
    study.storage.close()


@pytest.mark.slow
def test_a_worker_goes_on_where_its_study_is_extended_before_the_confirmation(url, monkeypatch):
    storage = open_storage(url)
    create_study(parse_spec(confirmed_spec(), where="toy"), storage, checkpoints="kept")
    extended, original = [], worker.confirming_study

    def extended_first(study):
        if not extended:
            extended.append(open_study("toy", storage).extend(trials=1))
        return original(study)

    monkeypatch.setattr(worker, "confirming_study", extended_first)
    args = argparse.Namespace(study="toy", checkpoints=None)
    assert worker._work(args, storage, threading.Event()) is Left.OVER
    study = open_study("toy", storage)
    assert study.ledger.counts().done == 9
    assert study.confirmation.over
    storage.close()


def test_two_processes_make_one_confirmation(url):
    study = search.create(confirmed_spec(), storage=url)
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
    study = search.create(confirmed_spec(), storage=url)
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


@pytest.mark.slow
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
    study = search.create(
        confirmed_spec(trials=4, confirm="[confirm]\ntop = 2\n"), storage=postgres_url
    )
    search.work(study)
    found = study.confirmation
    assert (found.over, found.trials, study.best.number) == (True, 6, found.winner.trial)
    target = open_storage(url)
    copy_study("toy", study.storage, target)
    assert open_study("toy", target).confirmation == found
    for storage in (target, study.storage):
        storage.close()


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


def test_pausing_a_study_pauses_its_confirmation(confirmed, url):
    confirming = open_study("toy-confirm", confirmed.storage)
    assert confirmed.pause() and not confirmed.pause()
    assert confirming.status().held_since is not None
    assert confirmed.resume() and not confirmed.resume()
    assert confirming.status().held_since is None
    confirmed.extend(trials=1)
    search.work(confirmed)  # the confirmation is another one since
    confirmed.pause()
    confirmed.amend(confirmed_spec(trials=9, confirm="[confirm]\ntop = 2\n"))
    made = confirming_study(confirmed)
    assert made.status().held_since is not None  # as its study is


@pytest.mark.slow
def test_a_confirmation_may_be_longer_than_what_a_person_writes(make_study):
    space = "\n".join(f"{'x' * 60}{n} = {{ float = [0.0, 1.0] }}" for n in range(20))
    study = make_study(
        "toy:Noisy",
        trials=8,
        space=f"x = {{ float = [0.0, 1.0] }}\n{space}",
        extra='[sampler]\nname = "random"\n[confirm]\ntop = 8\nseeds = 100\nsplits = "same"\n',
    )
    work(study, name="w", stop=threading.Event())
    confirming = confirming_study(study)
    assert len(confirming.spec.text) > 2**20
    assert open_study(confirming.name, study.storage).spec.trials == 800
