"""The control arm and the pruner's audit: neither changes what is proposed and what is pruned."""

import collections
import os
import signal
import subprocess
import sys
import threading
import time

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from toy import toy_spec

import search
from search.spec import parse_spec
from search.worker.worker import work

TPE = '[sampler]\nname = "tpe"\nn_startup_trials = 4\n'
MEDIAN = '[pruner]\nname = "median"\nn_startup_trials = 2\n'
HALVING = '[pruner]\nname = "successive-halving"\nmin_resource = 1\nreduction_factor = 2\n'
HYPERBAND = '[pruner]\nname = "hyperband"\nmin_resource = 1\nmax_resource = 5\n'


def run(study):
    work(study, name="w", stop=threading.Event())
    return study.trials


def control_of(trials):
    return [trial for trial in trials if trial.user_attrs.get("arm") == "control"]


def test_the_control_is_drawn_at_random_evenly_and_runs_to_its_end(make_study):
    study = make_study("toy:Improving", trials=15, extra=f"{TPE}{MEDIAN}[control]\ntrials = 5")
    trials = run(study)
    control = control_of(trials)
    assert [trial.number for trial in control] == [2, 5, 8, 11, 14]
    assert all(trial.state is TrialState.COMPLETE for trial in control)
    assert any(trial.state is TrialState.PRUNED for trial in trials)
    for trial in control:
        sampler = optuna.samplers.RandomSampler(seed=study.spec.trial_seed(trial.number) % 2**32)
        ours = optuna.create_study(sampler=sampler).ask().suggest_float("x", 0.0, 1.0)
        assert trial.params == {"x": ours}


def proposed(before: list[FrozenTrial], lineage: int) -> float:
    """What plain Optuna proposes to a study that holds just these trials."""
    sampler = optuna.samplers.TPESampler(
        seed=parse_spec(toy_spec(), where="the toy").trial_seed(lineage) % 2**32,
        multivariate=True,
        n_startup_trials=4,
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in before:
        study.add_trial(
            create_trial(
                state=trial.state,
                value=trial.value,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
            )
        )
    return study.ask().suggest_float("x", 0.0, 1.0)


@pytest.mark.slow
def test_the_sampler_is_never_shown_the_control(make_study):
    study = make_study(trials=16, extra=f"{TPE}[control]\ntrials = 6")
    before: list[FrozenTrial] = []
    for trial in run(study):
        if "arm" not in trial.user_attrs:
            assert trial.params == {"x": proposed(before, trial.number)}
            before.append(trial)
    assert len(before) == 10


@pytest.mark.slow
@pytest.mark.parametrize("pruner", [MEDIAN, HALVING, HYPERBAND])
def test_an_audit_changes_nothing_but_that_pruned_trials_run_on(make_study, tmp_path, pruner):
    extra = TPE + pruner
    plain = run(make_study("toy:Improving", trials=24, extra=extra))
    audited = run(
        make_study(
            "toy:Improving",
            trials=24,
            extra=f"{extra}[audit]\nfraction = 1.0",
            storage=f"sqlite:///{tmp_path}/audited.db",
        )
    )
    assert [t.params for t in plain] == [t.params for t in audited]
    pruned = [t for t in plain if t.state is TrialState.PRUNED]
    assert 3 < len(pruned) < 24
    for one, other in zip(plain, audited, strict=True):
        assert other.state is TrialState.COMPLETE
        assert other.value == other.params["x"]
        if one.state is TrialState.PRUNED:
            assert other.user_attrs["audit"] == {
                "trial": one.number, "step": one.last_step, "value": one.value,
            }  # fmt: skip
        else:
            assert "audit" not in other.user_attrs


@pytest.mark.slow
def test_an_audit_takes_its_share_of_the_pruned_and_the_draw_is_blind(make_study):
    study = make_study("toy:Improving", trials=60, extra=f"{MEDIAN}[audit]\nfraction = 0.3")
    trials = run(study)
    drawn = {n for n in range(60) if study.spec.is_audited(n)}
    assert 8 <= len(drawn) <= 28  # binomial, 60 x 0.3
    for trial in trials:
        if trial.state is TrialState.PRUNED:
            assert trial.number not in drawn
        if "audit" in trial.user_attrs:
            assert trial.number in drawn
    assert sum("audit" in trial.user_attrs for trial in trials) >= 3


WORKER = """
import sys, threading, search
from search.worker.worker import work
study = search.open("toy", storage=sys.argv[1])
work(study, name=sys.argv[2], stop=threading.Event())
"""


@pytest.mark.slow
def test_two_workers_and_a_kill_keep_both_arms_and_every_mark(make_study, storage_url):
    study = make_study(
        trials=12,
        storage=storage_url,
        extra=f"{TPE}{MEDIAN}[control]\ntrials = 4\n[audit]\nfraction = 1.0\n"
        "[fixed]\npause = 0.1\n[workers]\nheartbeat_seconds = 0.2\nmax_retries = 9",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, study.storage.address, name],
                         env=environment, stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]  # fmt: skip
    try:
        killed_in_audit = _kill_in_the_middle_of_an_audit(study, workers)
        run(study)
        workers[1].wait(60)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    trials = search.open("toy", storage=study.storage.address).trials
    ended = {t.user_attrs["lineage"]: t for t in trials if t.state is TrialState.COMPLETE}
    assert sorted(ended) == list(range(12))
    assert collections.Counter(t.state for t in trials)[TrialState.COMPLETE] == 12
    control = {t.user_attrs["lineage"] for t in control_of(ended.values())}
    assert control == {n for n in range(12) if study.spec.is_control(n)}
    assert all("audit" not in ended[lineage].user_attrs for lineage in control)
    resumed = ended[killed_in_audit.user_attrs["lineage"]]
    assert resumed.number != killed_in_audit.number
    assert resumed.user_attrs["audit"] == killed_in_audit.user_attrs["audit"]
    shown = study.searched(0).get_trials()
    assert {t.number for t in shown} == {
        t.number for t in trials if t.user_attrs["lineage"] not in control
    } - {resumed.number}
    pruned = next(t for t in shown if t.number == killed_in_audit.number)
    assert (pruned.state, pruned.last_step) == (
        TrialState.PRUNED, killed_in_audit.user_attrs["audit"]["step"],
    )  # fmt: skip


def _kill_in_the_middle_of_an_audit(study, workers) -> FrozenTrial:
    """SIGKILL the worker of an audited trial that runs; the trial as it was."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for trial in study.trials:
            if trial.state is TrialState.RUNNING and "audit" in trial.user_attrs:
                name = trial.user_attrs["worker"]
                if name == "one" and len(trial.intermediate_values) < 4:
                    os.kill(workers[0].pid, signal.SIGKILL)
                    return trial
        time.sleep(0.02)
    raise AssertionError("no trial was audited by the first worker")
