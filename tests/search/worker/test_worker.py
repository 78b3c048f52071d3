"""One worker in this process: what is run, how each ending is recorded, what is kept."""

import sys
import threading
import time

import optuna
import pytest
import toy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

import search
from search import attributes
from search.errors import ProblemError, StorageError, StudyHalted, StudyNotFound
from search.storage import open_storage
from search.worker.worker import work


def run(study, *, stop=None):
    return work(study, name="w", stop=stop or threading.Event())


@pytest.fixture(autouse=True)
def _records(caplog):
    caplog.set_level("INFO", logger="search")


@pytest.mark.slow
def test_exactly_the_budget_is_run_and_every_curve_is_whole(make_study, storage_url):
    study = make_study(trials=6, storage=storage_url)
    run(study)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    for trial in study.trials:
        lineage = trial.user_attrs["lineage"]
        curve = toy.whole_curve(study.spec.trial_seed(lineage), trial.params["x"], 4)
        assert list(trial.intermediate_values.values()) == curve
        assert trial.value == curve[-1]
        assert trial.user_attrs["curves"] == {
            "step": [1, 2, 3, 4],
            "double": [2 * value for value in curve],
        }
        assert trial.user_attrs["fingerprint"] == {"data": "{}"}
        assert trial.user_attrs["environment"] == {"machine": "test"}
    run(study)  # a finished study stays as it is
    assert len(study.trials) == 6


@pytest.mark.slow
def test_one_worker_with_the_same_seed_proposes_the_same_trials(make_study, tmp_path):
    options = {"trials": 14, "extra": '[sampler]\nname = "tpe"\nn_startup_trials = 5'}
    first = make_study(storage=f"sqlite:///{tmp_path}/1.db", **options)
    second = make_study(storage=f"sqlite:///{tmp_path}/2.db", **options)
    run(first)
    run(second)
    assert [t.params for t in first.trials] == [t.params for t in second.trials]
    assert len({t.params["x"] for t in first.trials}) == 14


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cma-es", "qmc"])
def test_every_sampler_stays_in_the_space(make_study, sampler):
    study = make_study(
        space="x = { float = [0.5, 1.0] }\ny = { int = [1, 8], log = true }",
        trials=12,
        extra=f'[sampler]\nname = "{sampler}"',
    )
    run(study)
    assert all(0.5 <= t.params["x"] <= 1 and 1 <= t.params["y"] <= 8 for t in study.trials)
    assert len({tuple(t.params.values()) for t in study.trials}) == 12


def test_a_grid_visits_each_point_once(make_study):
    study = make_study(
        space="x = { choice = [0.1, 0.2, 0.3] }\nn = { int = [1, 2] }",
        trials=6,
        extra='[sampler]\nname = "grid"',
    )
    run(study)
    points = {(t.params["x"], t.params["n"]) for t in study.trials}
    assert points == {(x, n) for x in (0.1, 0.2, 0.3) for n in (1, 2)}


def test_named_trials_run_first_exactly_as_given(make_study):
    extra = '[[trials]]\nname = "first"\nparams = { x = 0.25, steps = 2 }\n'
    study = make_study(trials=3, extra=extra)
    run(study)
    first = study.trials[0]
    assert first.params == {"x": 0.25, "steps": 2}
    assert first.user_attrs["name"] == "first"
    assert list(first.intermediate_values) == [1, 2]
    assert list(study.trials[1].intermediate_values) == [1, 2, 3, 4]


def test_a_pruner_ends_what_falls_behind(make_study):
    extra = '[pruner]\nname = "median"\nn_startup_trials = 2\n'
    for index, x in enumerate((0.8, 0.9, 0.1, 1.0)):
        extra += f'[[trials]]\nname = "t{index}"\nparams = {{ x = {x} }}\n'
    study = make_study("toy:Improving", trials=4, extra=extra)
    run(study)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED,
                      TrialState.COMPLETE]  # fmt: skip
    pruned = study.trials[2]
    assert list(pruned.intermediate_values) == [1]
    assert "reason" not in pruned.user_attrs
    assert study.best.params == {"x": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "state", "reason", "error"),
    [
        ("diverged", TrialState.PRUNED, "diverged", "the loss is nan"),
        ("nan", TrialState.PRUNED, "diverged", "the final value is nan"),
        ("memory", TrialState.FAIL, "out-of-memory", "tried to allocate 1 TB"),
        ("error", TrialState.FAIL, "error", "ValueError: a typo"),
        ("slow", TrialState.PRUNED, "timeout", None),
        ("fine", TrialState.COMPLETE, None, None),
    ],
)
def test_why_a_trial_ended_is_recorded(make_study, how, state, reason, error):
    study = make_study(
        "toy:Failing",
        space=f'how = {{ choice = ["{how}"] }}\nx = {{ float = [0, 1] }}',
        trials=1,
        extra="[workers]\ntrial_timeout_seconds = 0.3",
    )
    run(study)
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs.get("reason")) == (state, reason)
    assert trial.user_attrs.get("error") == error
    status = study.status()
    assert status.done
    assert (status.complete, status.pruned, status.failed) == {
        TrialState.COMPLETE: (1, 0, 0),
        TrialState.PRUNED: (0, 1, 0),
        TrialState.FAIL: (0, 0, 1),
    }[state]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pruned", "diverged", "nan", "slow"])
def test_a_trial_that_ends_at_nan_can_be_read_again(make_study, storage_url, how):
    pruner = '[pruner]\nname = "threshold"\nupper = 100.0\n[audit]\nfraction = 1.0\n'
    study = make_study(
        "toy:Undefined",
        space=f'how = {{ choice = ["{how}"] }}\nx = {{ float = [0, 1] }}',
        trials=2,
        storage=storage_url,
        extra=f"{pruner if how == 'pruned' else ''}[workers]\ntrial_timeout_seconds = 0.3",
    )
    run(study)
    again = search.open("toy", storage=study.storage.address)
    for trial in again.trials:
        assert (trial.state, trial.value) == (TrialState.PRUNED, None)
        assert list(trial.intermediate_values) == [1, 2]
    assert again.status().done
    again.storage.close()


def test_sys_exit_in_a_problem_is_an_error(make_study, monkeypatch):
    study = make_study(trials=1)
    monkeypatch.setattr(toy.Toy, "run", lambda self, run: sys.exit("bad config"))
    run(study)
    (trial,) = study.trials
    assert trial.user_attrs["reason"] == "error"
    assert trial.user_attrs["error"] == "SystemExit: bad config"


def test_ctrl_c_in_python_hands_the_trial_back(make_study, monkeypatch):
    study = make_study(trials=1)

    def interrupted(self, run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(toy.Toy, "run", interrupted)
        run(study)
    (row,) = study.ledger.rows()
    assert (row.done, row.worker, row.lost_attempts) == (False, None, 0)
    run(study)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    assert [attempt.how for attempt in study.ledger.attempts()] == ["stopped", "complete"]


def test_the_same_error_three_times_halts_the_study_and_a_resume_repeats_those(make_study):
    study = make_study(
        "toy:Failing", space='how = { choice = ["error"] }\nx = { float = [0, 1] }', trials=9
    )
    with pytest.raises(StudyHalted, match=r"failed with ValueError at toy.py:\d+; mend the cause"):
        run(study)
    assert len(study.trials) == 3
    assert "in run" in study.trials[0].user_attrs["traceback"]
    with pytest.raises(StudyHalted):  # nobody starts another trial
        run(study)
    assert len(study.trials) == 3
    assert study.ledger.resume() == 3
    assert study.ledger.counts().done == 0


def test_what_faulty_code_reported_is_not_kept_for_the_mended_one(make_study, monkeypatch, caplog):
    study = make_study(trials=3)
    mended = toy.Toy.run

    def faulty(self, handed):
        handed.report(1, 1e9, double=2e9)
        raise ValueError("a typo")

    monkeypatch.setattr(toy.Toy, "run", faulty)
    with pytest.raises(StudyHalted):
        run(study)
    monkeypatch.setattr(toy.Toy, "run", mended)
    assert study.ledger.resume() == 3
    run(study)
    assert "missing" not in caplog.text
    for trial in study.trials[3:]:
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        curve = toy.whole_curve(seed, trial.params["x"], 4)
        assert trial.params == study.trials[trial.user_attrs["retry_of"]].params
        assert list(trial.intermediate_values.values()) == curve
        assert trial.user_attrs["curves"]["double"] == [2 * value for value in curve]


def test_an_error_may_name_what_no_database_takes(make_study, storage_url, monkeypatch, caplog):
    study = make_study(trials=9, storage=storage_url)

    def fail(self, handed):
        raise FileNotFoundError("no file caf\udce9 \0")

    monkeypatch.setattr(toy.Toy, "run", fail)
    with pytest.raises(StudyHalted, match=r"failed with FileNotFoundError at test_worker.py:\d+;"):
        run(study)
    assert len(study.trials) == 3
    assert study.trials[0].user_attrs["error"] == r"FileNotFoundError: no file caf\udce9 \x00"
    caplog.text.encode()
    assert study.ledger.resume() == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "curves", "words"),
    [
        (2**31, {}, "need a step of 0 to 2147483647, got 2147483648"),
        (2**70, {}, f"need a step of 0 to 2147483647, got {2**70}"),
        (-1, {}, "need a step of 0 to 2147483647, got -1"),
        (1, {"c" * 1_000_000: 1.0}, "at most 200 characters, got 1000000"),
        (1, {f"c{n}": 1.0 for n in range(1_001)}, "need at most 1000 curves, got 1001"),
    ],
    ids=["step", "huge-step", "negative-step", "name", "curves"],
)
def test_a_report_that_cannot_be_stored_is_the_problems_error(
    make_study, storage_url, monkeypatch, step, curves, words
):
    study = make_study(trials=1, storage=storage_url)
    monkeypatch.setattr(toy.Toy, "run", lambda self, context: context.report(step, 0.5, **curves))
    run(study)
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "error")
    assert trial.user_attrs["error"].endswith(words)
    assert trial.intermediate_values == {}


def test_errors_of_different_kinds_do_not_halt(make_study):
    extra = "".join(
        f'[[trials]]\nname = "t{i}"\nparams = {{ x = 0.5, how = "{how}" }}\n'
        for i, how in enumerate(["error", "error", "fine", "error", "error"])
    )
    study = make_study("toy:Failing", trials=5, extra=extra)
    run(study)
    assert study.status().done


def test_a_worker_that_was_declared_dead_changes_nothing(make_study, caplog):
    study = make_study(trials=1, extra="[fixed]\npause = 0.3\n[workers]\nheartbeat_seconds = 0.1")

    def declare_dead():
        time.sleep(0.6)
        study.ledger.release_worker("w")

    thread = threading.Thread(target=declare_dead)
    thread.start()
    run(study)
    thread.join()
    first, second = study.trials
    assert (first.state, first.user_attrs["reason"]) == (TrialState.FAIL, "lost")
    assert second.state is TrialState.COMPLETE
    assert "trial 0: lease lost (reassigned or ended elsewhere); result dropped" in caplog.text


@pytest.mark.slow
def test_a_lone_waiting_worker_takes_over_from_a_dead_one(make_study, storage_url):
    study = make_study(trials=1, storage=storage_url, extra="[workers]\nheartbeat_seconds = 0.2")
    assert study.ledger.claim("dead") is not None  # and never beats
    worker = threading.Thread(target=run, args=(study,), daemon=True)
    worker.start()
    worker.join(60)
    assert not worker.is_alive()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.slow
@pytest.mark.parametrize("made_by", ["us", "plain Optuna"])  # whose SQLite gives an id again
def test_the_workers_of_a_deleted_study_end_and_leave_the_next_study_alone(
    make_study, storage_url, made_by, monkeypatch
):
    if made_by == "plain Optuna":
        RDBStorage(storage_url.replace("postgresql:", "postgresql+psycopg:")).engine.dispose()
    study = make_study(trials=5, storage=storage_url)
    following = []
    run_once = toy.Toy.run

    def and_delete(self, handed):
        value = run_once(self, handed)
        other = open_storage(storage_url)
        optuna.delete_study(study_name="toy", storage=other.optuna)
        other.close()
        following.append(make_study(name="next", storage=storage_url))
        return value

    monkeypatch.setattr(toy.Toy, "run", and_delete)
    with pytest.raises(StorageError, match="the study was deleted or renamed"):
        run(study)
    with pytest.raises(StorageError, match="the study was deleted or renamed"):
        study.ledger.reap()
    assert following[0].trials == []


@pytest.mark.slow
def test_a_deleted_study_has_no_status(make_study, storage_url):
    study = make_study(storage=storage_url)
    optuna.delete_study(study_name="toy", storage=study.storage.optuna)
    with pytest.raises(StudyNotFound, match="no study named 'toy'"):
        study.status()


@pytest.mark.slow
def test_hours_end_a_study_between_trials(make_study):
    study = make_study(trials=50, extra="[fixed]\npause = 0.1\n[workers]\nheartbeat_seconds = 1.0")
    slow = search.create(
        study.spec.text.replace('name = "toy"', 'name = "timed"').replace(
            "trials = 50", "trials = 50\nhours = 0.0005"
        ),
        storage=study.storage.address,
    )
    run(slow)
    status = slow.status()
    assert status.out_of_time
    assert 1 <= status.ended < 50
    assert all(trial.state is TrialState.COMPLETE for trial in slow.trials)
    slow.storage.close()


def test_a_repeated_point_is_run_again_and_marked(make_study):
    study = make_study(trials=3, space="x = { choice = [0.5] }")
    run(study)
    assert [t.user_attrs.get("duplicate_of") for t in study.trials] == [None, 0, 0]
    assert len({t.value for t in study.trials}) == 3  # each lineage has its own seed


def test_other_data_are_refused(make_study, monkeypatch):
    study = make_study(trials=1)
    monkeypatch.setattr(toy.Toy, "fingerprint", lambda self: {"data": "changed"})
    with pytest.raises(ProblemError, match=r"created on other data \(data: .* changed here\)"):
        run(study)
    assert study.trials == []


@pytest.mark.slow
def test_lists_and_tables_in_fixed_are_parameters_like_others(make_study):
    fixed = "[fixed]\nsteps = 1\nsizes = [1, [2, 3]]\noptions = { a = { b = [1] } }"
    study = make_study(trials=3, space="x = { choice = [0.5] }", extra=fixed)
    work(study, name="w", stop=threading.Event())
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    twins = [trial.user_attrs.get(attributes.DUPLICATE_OF) for trial in study.trials]
    assert twins == [None, 0, 0]
