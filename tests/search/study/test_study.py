"""Creating and opening studies: frozen specs, unusable problems, wrong names."""

import threading
from pathlib import Path

import pytest
from toy import toy_spec

import search
from search.errors import (
    NoResult,
    ProblemError,
    SearchError,
    SpecError,
    StorageError,
    StudyChanged,
    StudyNotFound,
)


def test_the_same_content_opens_and_other_content_is_refused(make_study):
    first = make_study(trials=3)
    same = search.create("# a comment\n" + toy_spec(trials=3), storage=first.storage.address)
    assert same.uid == first.uid
    with pytest.raises(StudyChanged, match=r"budget\.trials: 3 in the study, 4 here.*new name"):
        search.create(toy_spec(trials=4), storage=first.storage.address)
    same.storage.close()


def test_checkpoints_are_looked_for_where_whoever_goes_on_says(make_study, tmp_path):
    first = make_study()
    for told, place in ((None, first.checkpoints.address), (str(tmp_path), tmp_path)):
        again = search.create(toy_spec(), storage=first.storage.address, checkpoints=told)
        again.storage.close()
        assert again.checkpoints.address == str(place)
    fresh = search.create(toy_spec(name="other"), storage=first.storage.address)
    fresh.storage.close()
    assert fresh.checkpoints.address == str(Path("runs/other/checkpoints").absolute())


def test_a_study_file_may_be_named_by_a_string(tmp_path, sqlite_url):
    file = tmp_path / "my.toml"
    file.write_text(toy_spec(name="from-a-file"))
    study = search.create(str(file), storage=sqlite_url)
    study.storage.close()
    assert study.name == "from-a-file"
    with pytest.raises(SpecError, match=r"cannot read the study file none\.toml"):
        search.create("none.toml", storage=sqlite_url)


def test_several_processes_may_create_a_study_at_once(sqlite_url, tmp_path):
    uids, errors = [], []

    def create():
        try:
            study = search.create(toy_spec(), storage=sqlite_url, checkpoints=str(tmp_path))
            uids.append(study.uid)
            study.storage.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(uids) == 6
    assert len(set(uids)) == 1


def test_a_study_that_does_not_exist_names_the_nearest(make_study):
    study = make_study(name="fashion")
    with pytest.raises(StudyNotFound, match="no study named 'fashoin'.*did you mean 'fashion'"):
        search.open("fashoin", storage=study.storage.address)


@pytest.mark.parametrize(
    ("problem", "space", "extra", "kind", "message"),
    [
        ("nowhere:X", None, "", ProblemError, "cannot import the problem 'nowhere:X': ModuleNotF"),
        ("toy:Nothing", None, "", ProblemError, "toy has no 'Nothing'"),
        ("toy:Refusing", None, "[data]\na = 1", ProblemError, "need no settings"),
        (
            "toy:Careless",
            None,
            "",
            ProblemError,
            "asked to check parameters: KeyError: .*correct",
        ),
        ("toy:Toy", "x = { float = [0, 200] }", "", ProblemError, "need x <= 100, got 200"),
        (
            "toy:Apart",
            'x = { float = [0, 1] }\na = { choice = ["p", "q", "r"] }\n'
            'b = { choice = ["p", "q", "r"] }',
            "",
            ProblemError,
            ".space. allow what cannot be run: need a and b to differ, got q twice",
        ),
        (
            "toy:Toy",
            "y = { float = [0, 1] }",
            '[[trials]]\nname = "t"\nparams = { x = 101, y = 0.5 }',
            ProblemError,
            "trial 't' with .fixed.: need x <= 100, got 101",
        ),
        (
            "toy:Toy",
            None,
            '[pruner]\nname = "hyperband"\nreduction_factor = 1',
            SpecError,
            "the hyperband pruner: reduction_factor must be a whole number >= 2, got 1",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_stored(
    make_study, sqlite_url, problem, space, extra, kind, message
):
    options = {"space": space} if space else {}
    with pytest.raises(kind, match=message) as caught:
        make_study(problem, extra=extra, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(StudyNotFound):
        search.open("toy", storage=sqlite_url)


def test_an_address_that_takes_no_checkpoints_is_refused_before_anything_is_stored(sqlite_url):
    with pytest.raises(StorageError, match="to a directory or to s3://"):
        search.create(toy_spec(), storage=sqlite_url, checkpoints="ftp://x")
    with pytest.raises(StudyNotFound):
        search.open("toy", storage=sqlite_url)


def test_what_is_shown_in_percent_is_stored_with_the_study(make_study):
    assert make_study().percent == ()
    assert make_study("toy:Shared", name="shared").percent == ("value",)
    with pytest.raises(ProblemError, match=r"tuple of metrics' names, got 'value'; write"):
        make_study("toy:Misdeclared", name="misdeclared")


def test_there_is_no_best_trial_before_one_is_complete(make_study):
    study = make_study()
    with pytest.raises(NoResult, match="no complete trial to choose from"):
        _ = study.best
    with pytest.raises(SearchError, match="no trial 7; begin with `run toy`"):
        study.trial(7)
