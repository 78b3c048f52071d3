"""A study is extended: exactly N become exactly N + M, whoever works meanwhile."""

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from lost_answer import lost_in_commit
from toy import toy_spec

import search
from search import attributes
from search.cli import app
from search.errors import SpecError
from search.spec import parse_spec
from search.spec.amend import amended, extended
from search.storage import open_storage
from search.study import open_study
from search.study.copy_study import copy_study
from search.worker.worker import work

CONTROLLED = "[control]\ntrials = 2\n[pruner]\nname = 'median'\n[audit]\nfraction = 0.5"


def lineages(study):
    return sorted(trial.user_attrs[attributes.LINEAGE] for trial in study.trials)


@pytest.mark.slow
def test_a_finished_study_goes_on_to_exactly_n_and_m(make_study, storage_url):
    study = make_study(trials=3, storage=storage_url)
    work(study, name="w", stop=threading.Event())
    text, digest = study.spec.text, study.spec.hash
    made = study.extend(trials=2)
    assert study.status().budget == 5
    assert not study.status().done
    work(study, name="w", stop=threading.Event())
    assert lineages(study) == [0, 1, 2, 3, 4]
    assert [t.user_attrs.get(attributes.AMENDMENT) for t in study.trials] == [None] * 3 + [1] * 2
    assert (study.spec.text, study.spec.hash) == (text, digest)
    assert study.status().done
    assert (made.number, made.trials, made.given) == (1, 5, None)
    assert (made.text, dict(made.replaced)) == ("budget.trials = 5\n", {"budget.trials": 3})
    assert made.hash == hashlib.sha256(f"{digest}\n{made.text}".encode()).hexdigest()
    assert abs(made.at - datetime.now(UTC)) < timedelta(minutes=5)
    reopened = open_study("toy", study.storage)
    assert reopened.amendments == study.amendments == (made,)
    assert reopened.spec.trials == 5


@pytest.mark.slow
def test_a_worker_at_work_takes_the_new_budget(make_study, storage_url):
    study = make_study(trials=2, storage=storage_url)
    other = open_study("toy", study.storage)
    calls = []

    def extend_at_first():
        calls.append(1)
        if len(calls) == 1:
            other.extend(trials=3)

    assert work(study, name="w", stop=threading.Event(), on_trial=extend_at_first)
    assert lineages(study) == [0, 1, 2, 3, 4]
    assert [t.user_attrs.get(attributes.AMENDMENT) for t in study.trials] == [None, 1, 1, 1, 1]


def test_a_study_without_a_limit_of_hours_or_steps_takes_none(make_study):
    study = make_study(trials=3)
    with pytest.raises(SpecError, match=r"has no limit of hours, got 0\.5 more; leave --hours"):
        study.extend(hours=0.5)
    with pytest.raises(SpecError, match=r"has no limit of steps, got 5 more; leave --steps"):
        study.extend(steps=5)
    assert study.amendments == ()


def test_a_study_that_is_out_of_time_goes_on(sqlite_url, tmp_path):
    spec = toy_spec(trials=3).replace("trials = 3", "trials = 3\nhours = 1e-9")
    study = search.create(spec, storage=sqlite_url, checkpoints=str(tmp_path))
    with study.storage.engine.begin() as connection:
        connection.exec_driver_sql("update search_study set elapsed = 60")
    work(study, name="w", stop=threading.Event())
    assert (study.trials, study.status().state) == ([], "out of time")
    with pytest.raises(search.NoResult, match="add hours with `extend toy --hours"):
        _ = study.best
    made = study.extend(hours=1)
    assert made.text == "budget.hours = 1.000000001\n"
    work(study, name="w", stop=threading.Event())
    assert study.status().done
    study.storage.close()


@pytest.mark.slow
def test_control_and_audit_lie_as_densely_in_the_new_block(make_study):
    study = make_study(trials=8, extra=CONTROLLED)
    old = [study.spec.is_control(n) for n in range(8)]
    audited = [study.spec.is_audited(n) for n in range(8)]
    study.extend(trials=8)
    study.extend(trials=8)
    control = [study.spec.is_control(n) for n in range(24)]
    assert control[:8] == old
    assert [sum(control[n : n + 8]) for n in (0, 8, 16)] == [2, 2, 2]
    assert [study.spec.is_audited(n) for n in range(8)] == audited
    assert any(study.spec.is_audited(n) for n in range(8, 24))
    work(study, name="w", stop=threading.Event())
    arms = [t.user_attrs.get(attributes.ARM) is not None for t in study.trials]
    assert arms == control


def test_two_that_extend_at_once_add_both(make_study, storage_url):
    study = make_study(trials=2, storage=storage_url)
    others = [open_study("toy", open_storage(storage_url)) for _ in range(2)]
    threads = [
        threading.Thread(target=other.extend, kwargs={"trials": 3 + n})
        for n, other in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.storage.close()
    status = study.status()
    assert status.budget == 9
    assert [one.number for one in status.amendments] == [1, 2]
    assert status.amendments[-1].trials == 9
    assert len(study.ledger.rows()) == 9


def test_an_answer_that_is_lost_extends_once(make_study, storage_url):
    study = make_study(trials=2, storage=storage_url)
    with lost_in_commit(study.storage):
        study.extend(trials=3)
    assert study.status().budget == 5
    assert len(study.amendments) == 1
    with lost_in_commit(study.storage, committed=False):
        study.extend(trials=1)
    assert study.status().budget == 6


@pytest.mark.parametrize(
    ("changes", "trials", "message"),
    [
        ({"trials": 3}, 100_000, "has 3 of 100,000 trials, which are the most"),
        ({"trials": 4, "space": "x = { choice = [0.1, 0.2, 0.3, 0.4] }",
          "extra": '[sampler]\nname = "grid"'}, 1, "all points of its grid; it cannot be extended"),
        ({"trials": 3, "space": "x = { choice = [0.1, 0.2, 0.3, 0.4] }",
          "extra": '[sampler]\nname = "grid"'}, 2, "has 3 of 4 trials"),
        ({"trials": 1, "space": "",
          "extra": '[[trials]]\nname = "one"\nparams = { x = 0.5 }'}, 1, "its [space] is empty"),
    ],
)  # fmt: skip
def test_what_a_study_cannot_have_is_refused(make_study, changes, trials, message):
    study = make_study(**changes)
    with pytest.raises(SpecError) as refused:
        study.extend(trials=trials)
    assert message in str(refused.value)
    assert study.status().budget == changes["trials"]


def test_a_grid_goes_on_with_its_own_points(make_study):
    study = make_study(trials=2, space="x = { choice = [0.1, 0.2, 0.3, 0.4] }",
                       extra='[sampler]\nname = "grid"')  # fmt: skip
    study.extend(trials=2)
    work(study, name="w", stop=threading.Event())
    assert sorted(t.params["x"] for t in study.trials) == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.slow
def test_a_copy_has_the_amendments(make_study, tmp_path):
    study = make_study(trials=2)
    study.extend(trials=1)
    target = open_storage(f"sqlite:///{tmp_path}/copy.db")
    copy_study("toy", study.storage, target)
    copied = open_study("toy", target)
    assert copied.amendments == study.amendments
    copied.extend(trials=1)
    assert copied.status().budget == 4
    assert study.status().budget == 3
    target.close()


def test_the_same_file_opens_the_extended_study(make_study):
    study = make_study(trials=2)
    study.extend(trials=2)
    assert make_study(trials=2).spec.trials == 4
    assert make_study(trials=4).spec.trials == 4  # says what it has become
    with pytest.raises(search.StudyChanged, match=r"budget\.trials: 4 in the study, 5 here"):
        make_study(trials=5)


def test_the_command(make_study, sqlite_url, capsys):
    study = make_study(trials=2)
    assert app.main(["extend", "toy", "--trials", "+3", "--storage", sqlite_url]) == 0
    out = capsys.readouterr().out
    assert "amendment 1 of" in out
    assert "budget.trials 2 -> 5" in out
    assert f"`python -m search run toy --storage {sqlite_url}` runs the new trials" in out
    assert app.main(["extend", "toy", "--trials", "+1", "--json", "--storage", sqlite_url]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == study.status().amendments[1].to_json()
    assert app.main(["status", "toy", "--json", "--storage", sqlite_url]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["budget"], status["amendments"][1]) == (6, made)
    assert app.main(["status", "toy", "--storage", sqlite_url]) == 0
    assert "budget.trials 5 -> 6" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "got none of them; give --trials +N"),
        (("--trials", "20"), "need a plus and a number above 0"),
        (("--trials", "+0"), "need a plus and a number above 0"),
        (("--trials", "+1.5"), "must be a whole number"),
        (("--hours", "+inf"), "need a plus and a number above 0"),
        (("--hours", "+1"), "has no limit of hours"),
    ],
)
def test_what_cannot_be_added_is_one_line(make_study, sqlite_url, capsys, argv, message):
    make_study(trials=2)
    try:
        code = app.main(["extend", "toy", *argv, "--storage", sqlite_url])
    except SystemExit as left:
        code = left.code
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_the_spec_itself_does_not_change():
    spec = more = parse_spec(toy_spec(trials=4), where="toy")
    for trials in (3, 2):
        more = amended(spec, extended(more, trials=trials, hours=0, steps=0).spec, {})
    assert (more.trials, more.added, more.hash, more.text) == (9, 5, spec.hash, spec.text)
