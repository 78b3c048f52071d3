"""`[prior]`: the best of earlier studies run first, and the sampler learns from all that fit."""

import threading

import optuna
import pytest
from toy import toy_spec

import search
from search import attributes
from search.errors import SpecError
from search.spec import parse_spec
from search.worker.worker import work

OLD = {"name": "old", "trials": 12, "extra": "[sampler]\nname = 'random'"}


def run(study):
    assert work(study, name="w", stop=threading.Event())


@pytest.fixture
def old(make_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    study = make_study("toy:Improving", storage=url, **OLD)
    run(study)
    return study, url


def prior(url, trials=3):
    return f'[prior]\nstudies = ["old@{url}"]\ntrials = {trials}\n'


@pytest.mark.slow
def test_the_best_run_first_and_the_rest_is_learnt_from(make_study, old, tmp_path, storage_url):
    earlier, url = old
    ranked = sorted(earlier.trials, key=lambda trial: -trial.value)
    study = make_study(
        "toy:Improving", storage=storage_url, trials=5, extra=f"{prior(url)}[sampler]\nname='tpe'"
    )
    (tmp_path / "old.db").unlink()  # it was read once
    run(study)
    assert [t.params["x"] for t in study.trials[:3]] == [t.params["x"] for t in ranked[:3]]
    assert [t.user_attrs["name"] for t in study.trials[:3]] == [
        f"old-{t.number}" for t in ranked[:3]
    ]
    assert len(study.trials) == 5
    stored = study.ledger.attrs[attributes.PRIOR]
    assert len(stored["trials"]) == 12
    assert len(stored["hash"]) == 64
    (source,) = stored["studies"]
    assert (source["uid"], source["spec"]) == (earlier.uid, earlier.spec.hash)

    plain = optuna.create_study(direction="maximize")
    distributions = study.trials[0].distributions
    for number in (3, 4):  # one earlier trial less is shown for each own one that has ended
        plain = optuna.create_study(direction="maximize")
        for one in stored["trials"][number:]:
            plain.add_trial(
                optuna.trial.create_trial(
                    params=one["params"], distributions=distributions, value=one["values"][0]
                )
            )
        plain.add_trials(study.trials[:number])
        plain.sampler = optuna.samplers.TPESampler(
            seed=study.spec.trial_seed(number) % 2**32, multivariate=True
        )
        assert plain.ask().suggest_float("x", 0.0, 1.0) == study.trials[number].params["x"]


def test_the_same_file_opens_the_study_when_the_earlier_one_is_gone(make_study, old, tmp_path):
    _, url = old
    options = {"trials": 4, "extra": prior(url)}
    first = make_study("toy:Improving", **options)
    (tmp_path / "old.db").unlink()
    again = make_study("toy:Improving", **options)
    assert again.uid == first.uid
    assert [named.name for named in again.spec.named] == [n.name for n in first.spec.named]
    assert len(again.spec.named) == 3


def test_only_what_fits_the_space_is_taken_over(make_study, old):
    earlier, url = old
    inside = [t for t in earlier.trials if t.params["x"] <= 0.5]
    assert 0 < len(inside) < 12
    study = make_study(
        "toy:Improving", trials=12, space="x = { float = [0.0, 0.5] }", extra=prior(url, 12)
    )
    assert sorted(n.params["x"] for n in study.spec.named) == sorted(t.params["x"] for t in inside)
    fixed = make_study(
        "toy:Improving", name="fixed", trials=3, extra=f"{prior(url)}[fixed]\nx = 0.25",
        space="y = { float = [0.0, 1.0] }",
    )  # fmt: skip
    assert fixed.spec.named == ()


def test_a_sampler_that_cannot_learn_says_so(make_study, old, caplog):
    caplog.set_level("INFO", logger="search")
    study = make_study(
        "toy:Improving", trials=4, extra=f"{prior(old[1])}[sampler]\nname = 'random'"
    )
    assert "the sampler random does not learn from earlier trials" in caplog.text
    assert study.spec.earlier == ()
    assert len(study.spec.named) == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('studies = ["old@sqlite:///none.db"]', "there is no file of the storage sqlite:///none.d"),
        ('studies = ["none@URL"]', "prior: no study named 'none'"),
        ('studies = ["old@postgresql://me:secret@host/db"]', "a URL in it has no password"),
        ("studies = []", "studies lists 1 to 20 studies, got 0"),
        ('studies = ["old@"]', "behind @ stands the URL of a storage"),
        ("trials = 3", "studies is missing"),
        ('studies = ["old@URL"]\ntrials = 9', "need at most 6 .* got 9; lower it"),
        ('studies = ["old@URL", "old@URL"]', "prior: study 'old' is named twice in studies"),
    ],
)
def test_what_cannot_be_taken_over_is_one_line(old, sqlite_url, tmp_path, table, message):
    text = toy_spec("toy:Improving", extra=f"[prior]\n{table.replace('URL', old[1])}")
    with pytest.raises(SpecError, match=message) as caught:
        search.create(text, storage=sqlite_url)
    assert "secret" not in str(caught.value)


def test_no_two_trials_have_the_same_name(make_study, tmp_path):
    urls = [f"sqlite:///{tmp_path / f'{n}.db'}" for n in range(3)]
    for seed, url in enumerate(urls):
        text = toy_spec("toy:Improving", name="old", trials=4)
        study = search.create(f"seed = {seed}\n{text}", storage=url)
        run(study)
        study.storage.close()
    listed = ", ".join(f'"old@{url}"' for url in urls)
    study = make_study(
        "toy:Improving", trials=6, extra=f"[prior]\nstudies = [{listed}]\ntrials = 6\n"
    )
    names = [named.name for named in study.spec.named]
    assert len(set(names)) == len(names) == 6


def test_other_metrics_are_refused(old, sqlite_url):
    text = toy_spec("toy:Improving", extra=prior(old[1])).replace("maximize", "minimize")
    with pytest.raises(SpecError, match="has the metrics value to maximize, this one value to min"):
        search.create(text, storage=sqlite_url)


def test_a_grid_takes_nothing_over():
    text = toy_spec(
        space="x = { choice = [1, 2] }", trials=2, extra=f"{prior('a')}[sampler]\nname = 'grid'"
    )
    with pytest.raises(SpecError, match="prior needs a space that is not given point by point"):
        parse_spec(text, where="f.toml")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/db", "postgresql://me@host/db?password=secret",
        "postgresql://me@host/db?sslpassword=secret", "postgresql://me:se/secret@host/db",
        "postgresql://me%3Asecret@host/db", "postgresql://me:secret@host/db\\n",
        "host=h password=secret?password=secret", "sqlite:///old.db?password=secret",
        "mysql://me:secret@host/db", "https://secret@host/",
    ],
)  # fmt: skip
def test_a_url_with_a_secret_is_refused_and_not_shown(url):
    with pytest.raises(SpecError, match="has no password") as refused:
        parse_spec(toy_spec("toy:Improving", extra=prior(url)), where="f.toml")
    assert "secret" not in str(refused.value)


def test_the_pruner_waits_for_trials_of_the_studys_own(make_study, old):
    """The earlier trials are complete, and would be enough for the pruner to begin."""
    pruner = "[sampler]\nname = 'tpe'\n[pruner]\nname = 'median'\nn_startup_trials = 3\n"
    named = "".join(
        f'[[trials]]\nname = "t{n}"\nparams = {{ x = {x} }}\n'
        for n, x in enumerate([0.9, 0.1, 0.05, 0.01])
    )
    study = make_study("toy:Improving", trials=4, extra=f"{prior(old[1], 0)}{pruner}{named}")
    run(study)
    assert [trial.state.name for trial in study.trials] == [*["COMPLETE"] * 3, "PRUNED"]
    assert len(study.searched(0).get_trials(deepcopy=False)) == 12  # the sampler is shown
