"""Which checkpoints a worker keeps, deletes and goes on from."""

import threading
import time

import pytest
import toy
from optuna.trial import TrialState

import search
from search.ledger.by_hand import retry_failed
from search.worker.history import History
from search.worker.worker import CHECKPOINTS_KEPT, _Ending, _sweep, work


def run(study, *, stop=None):
    return work(study, name="w", stop=stop or threading.Event())


@pytest.fixture(autouse=True)
def _records(caplog):
    caplog.set_level("INFO", logger="search")


def test_a_resumed_trial_says_where_it_went_on(make_study, monkeypatch):
    study = make_study(trials=1, extra="[fixed]\npause = 0.3")
    for name, reports in (("first", 1), ("second", 4)):
        stop = threading.Event()
        monkeypatch.setattr(toy.Toy, "environment", lambda self, name=name: {"machine": name})
        worker = threading.Thread(target=work, args=(study,), kwargs={
            "name": name, "stop": stop})  # fmt: skip
        worker.start()
        while not study.trials or len(study.trials[-1].intermediate_values) < reports:
            time.sleep(0.05)
        if name == "first":
            stop.set()
        worker.join()
    (trial,) = study.trials
    assert (trial.user_attrs["worker"], trial.user_attrs["environment"]) == (
        "second", {"machine": "second"},
    )  # fmt: skip
    attempts = [(a.worker, a.trial, a.how) for a in study.ledger.attempts()]
    assert attempts == [("first", 0, "stopped"), ("second", 0, "complete")]


@pytest.mark.slow
def test_a_stopped_trial_goes_on_where_it_was(make_study):
    study = make_study(trials=1, space="x = { float = [0, 1] }", extra="[fixed]\npause = 0.4")
    stop = threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    run(study, stop=stop)
    timer.join()
    (stopped,) = study.trials
    reached = len(stopped.intermediate_values)
    assert (stopped.state, "reason" in stopped.user_attrs) == (TrialState.RUNNING, False)
    assert 1 <= reached < 4
    run(study)
    (resumed,) = study.trials
    assert resumed.params == stopped.params
    curve = toy.whole_curve(study.spec.trial_seed(0), resumed.params["x"], 4)
    assert list(resumed.intermediate_values.values()) == curve
    status = study.status()
    assert (status.done, status.complete, status.failed) == (True, 1, 0)


def test_a_damaged_checkpoint_means_starting_the_trial_over(make_study, tmp_path, caplog):
    study = make_study(trials=1, extra="[fixed]\npause = 0.3")
    stop = threading.Event()

    def stop_after_the_first_checkpoint() -> None:
        while not list((tmp_path / "checkpoints").rglob("*.checkpoint")):
            time.sleep(0.01)
        stop.set()

    threading.Thread(target=stop_after_the_first_checkpoint).start()
    run(study, stop=stop)
    (file,) = (tmp_path / "checkpoints").rglob("*.checkpoint")
    file.write_bytes(file.read_bytes()[:-1])
    again = search.open("toy", storage=study.storage.address)
    run(again)
    (line,) = [text for text in caplog.messages if "checkpoint" in text]
    assert line.endswith("is damaged and is not used")
    curve = toy.whole_curve(study.spec.trial_seed(0), again.best.params["x"], 4)
    assert list(again.best.intermediate_values.values()) == curve
    again.storage.close()


def test_checkpoints_of_the_best_are_kept_and_no_others(make_study, tmp_path):
    study = make_study(trials=12)
    run(study)
    ranked = sorted(study.trials, key=lambda trial: -trial.value)
    best = {trial.user_attrs["lineage"] for trial in ranked[:CHECKPOINTS_KEPT]}
    lineages = {trial.user_attrs["lineage"]: study.params(trial) for trial in ranked}
    assert {n for n, params in lineages.items() if study.checkpoints.load(n, params=params)} == best


@pytest.mark.slow
def test_of_several_good_trials_that_end_at_once_none_leaves_a_checkpoint_behind(make_study):
    study = make_study(trials=40)
    history = History(["maximize"], CHECKPOINTS_KEPT)
    value = 0.0
    for at_once in (1, 1, 1, 1, 1, 2, 3, 7, 1, 2):
        ended = []
        for _ in range(at_once):
            claim = study.ledger.claim("w")
            study.checkpoints.save(claim.lease.lineage, b"x", attempt=1, params={})
            value += 1
            study.ledger.end(claim, TrialState.COMPLETE, value)
            ended.append((claim, value))
        for claim, of in ended:
            _sweep(study, claim, _Ending(state=TrialState.COMPLETE, values=[of]), history)
        last = claim.lease.lineage
        best = set(range(max(0, last - CHECKPOINTS_KEPT + 1), last + 1))
        assert {n for n in range(40) if study.checkpoints.load(n, params={})} == best


@pytest.mark.slow
@pytest.mark.parametrize("seen", [True, False])  # dying, by its supervisor
def test_a_lineage_that_is_lost_for_good_leaves_no_checkpoint(make_study, tmp_path, seen):
    study = make_study(trials=2, extra="[workers]\nheartbeat_seconds = 0.2\nmax_retries = 1")
    files = []
    for _ in range(2):
        claim = study.ledger.claim("dead")
        study.checkpoints.save(claim.lease.lineage, b"half", attempt=claim.lease.attempt, params={})
        files.append(len(list(tmp_path.rglob("*.checkpoint"))))
        if seen:
            assert study.ledger.release_worker("dead") == 1
        else:
            while study.ledger.reap() == 0:
                time.sleep(0.05)
        files.append(len(list(tmp_path.rglob("*.checkpoint"))))
    assert files == [1, 1, 1, 0]
    assert study.status().lost == 2
    assert study.ledger.counts().done == 1


@pytest.mark.slow
def test_a_lineage_that_runs_again_keeps_its_checkpoint_when_its_loss_is_reported_late(make_study):
    study = make_study(trials=1, extra="[workers]\nmax_retries = 0")
    report = study.ledger.on_lost
    study.ledger.claim("dead")

    def report_late(lineage: int, attempt: int) -> None:  # the process stood after its commit
        assert retry_failed(study.ledger) == 1
        claim = study.ledger.claim("next")
        study.checkpoints.save(lineage, b"next", attempt=claim.lease.attempt, params={})
        report(lineage, attempt)

    study.ledger.on_lost = report_late
    assert study.ledger.release_worker("dead") == 1
    assert study.checkpoints.load(0, params={}) == b"next"
