"""A study on a real Slurm: killed workers, requeues, preemption, time limits, a lost node."""

import json
import os
import re
import signal
import subprocess

import pytest
from engine_launchers import make_launcher
from exact import check_exact
from holders import holders
from toy import toy_spec

import search
from search.errors import SearchError
from search.supervisor.launchers import slurm as slurm_launcher
from search.supervisor.launchers.slurm_queue import Unanswered

pytestmark = [pytest.mark.slow, pytest.mark.process]


def tasks_that_run(slurm):
    return slurm.command("squeue", "-h", "--array", "-t", "R", "-o", "%i").split()


def test_workers_and_supervisor_may_be_killed_and_the_same_command_tops_up(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=5)
    first = run.start("--on", "slurm", "--workers", "3")
    until(lambda: len(holders(study)) == 3, "three workers hold a trial")
    before = holders(study)
    killed = next(iter(before))
    os.kill(before[killed], signal.SIGKILL)
    until(lambda: len(holders(study).keys() - before) == 1, "another worker takes its place")
    first.kill()
    first.communicate()
    there = holders(study)
    again = run.start("--on", "slurm", "--workers", "4")
    until(lambda: len(holders(study)) == 4, "the same command tops up")
    assert holders(study).items() > there.items()  # they went on without their supervisor
    again.send_signal(signal.SIGINT)
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 130, output
    assert "3 workers of an earlier command are there" in output
    assert study.ledger.counts().running == 0
    assert study.ledger.counts().lost_attempts == 1
    assert slurm.command("squeue", "-h") == ""
    run.open_gate()
    output, _ = run.start("--on", "slurm", "--workers", "3").communicate(timeout=200)
    assert "5 of 5 trials ended" in output
    check_exact(study)


def test_a_task_that_is_requeued_and_one_that_is_preempted_release_their_trials(
    slurm, runner, until
):
    run = runner(slurm.environment)
    study = run.create(trials=2)
    process = run.start("--on", "slurm", "--workers", "2", "--", "--partition=scavenge")
    until(lambda: len(holders(study)) == 2, "both workers hold a trial")
    slurm.command("scontrol", "requeue", tasks_that_run(slurm)[0])
    until(lambda: sorted(name[-2:] for name in holders(study)) == [".0", ".1"],
          "the task that was requeued holds a trial")  # fmt: skip
    before = holders(study).keys()
    slurm.command("sbatch", "-p", "main", "-N2", "--exclusive", "-o", "/dev/null",
                  "--wrap", "sleep 1")  # fmt: skip
    until(lambda: len(holders(study).keys() - before) == 2, "both go on after the preemption")
    run.open_gate()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    check_exact(study)
    assert len(study.trials) == 2  # both were released


def test_a_study_goes_on_over_time_limits_without_any_supervisor(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=2)
    process = run.start("--on", "slurm", "--workers", "3", "--detach", "--", "--time=2")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    until(lambda: len(holders(study)) == 2, "two workers hold a trial")
    status, _ = run.command("status", "toy").communicate(timeout=100)
    logs = run.folder / "runs" / "toy" / "logs"
    assert re.search(
        rf"on Slurm +[23] running, [01] queued \(job \d+\); logs in {logs}\n", status
    ), status
    shown, _ = run.command("status", "toy", "--json").communicate(timeout=100)
    queue = json.loads(shown)["engine"]
    assert (queue["name"], queue["logs"]) == ("slurm", str(logs))
    assert queue["running"] + queue["queued"] in (2, 3)
    assert re.search(rf"\(job {queue['jobs'][0]}\)", status)
    until(
        lambda: any(name.endswith(".1") for name in holders(study)), "a task queues up again", 150
    )
    run.open_gate()
    until(lambda: study.ledger.counts().done == 2, "the study ends")
    check_exact(study)
    assert len(study.trials) == 2  # both were released


@pytest.mark.parametrize("supervised", [True, False])
def test_the_best_trials_are_trained_again(slurm, runner, until, supervised):
    run = runner(slurm.environment)
    extra = "[confirm]\ntop = 2\nseeds = 2\n[workers]\nheartbeat_seconds = 1.0\n"
    (run.folder / "toy.toml").write_text(toy_spec("toy:Noisy", trials=2, extra=extra))
    detach = () if supervised else ("--detach",)
    process = run.start("--on", "slurm", "--workers", "2", *detach)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "did not leave" not in output
    study = search.open("toy", storage=run.storage)
    until(lambda: (found := study.confirmation) is not None and found.over, "it is confirmed")
    assert study.best.number == study.confirmation.winner.trial
    assert [len(one.values) for one in study.confirmation.candidates] == [2, 2]
    study.storage.close()


def test_a_node_that_crashes_costs_no_retry(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=2)
    process = run.start("--on", "slurm", "--workers", "2", "--", "--nodelist=n1")
    until(lambda: len(holders(study)) == 2, "both workers hold a trial")
    before = holders(study).keys()
    slurm.crash_node("n1")
    until(lambda: "n1" in slurm.command("sinfo", "-h", "-R", "-N"), "Slurm sees it")
    slurm.start_node("n1")
    until(lambda: len(holders(study).keys() - before) == 2, "both go on")
    until(lambda: study.ledger.counts().lost_attempts == 0, "no retry is used up")
    run.open_gate()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    check_exact(study)


def test_the_script_can_be_shown_first(slurm, runner):
    run = runner(slurm.environment)
    study = run.create(trials=2)
    argv = ("--on", "slurm", "--workers", "2", "--gpus-per-worker", "2", "--dry-run")
    script, _ = run.start(*argv, "--", "--time=10").communicate(timeout=60)
    for option in ("--time=10", "--array=0-1", "--gres=gpu:2", "--cpus-per-task=1"):
        assert f"#SBATCH {option}\n" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert study.storage.address not in script
    assert slurm.command("squeue", "-h") == ""


def test_a_controller_that_is_away_is_waited_for(slurm, tmp_path, until, monkeypatch, caplog):
    """A worker that is to be replaced meanwhile, and one that is to end, are not forgotten."""
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setattr(slurm_launcher, "LOOK_SECONDS", 0.5)
    launcher = make_launcher("slurm", tmp_path)

    def begun():
        launcher.poll()
        return [path.name for path in tmp_path.glob("slurm-*") if not path.suffix[1:].isalpha()]

    launcher.start(2)
    try:
        until(lambda: len(begun()) == 2, "two workers begin")
        first, second = begun()
        slurm.stop_controller()
        launcher.start(1)
        launcher.end(first)
        launcher.poll()
        assert "waiting for it" in caplog.text
        slurm.start_controller()
        until(lambda: len(begun()) == 3, "the third worker begins")
        assert second in begun()
        until(lambda: launcher.poll() or launcher.counts() == (2, 0), "one of them has ended")
    finally:
        launcher.stop()
    assert launcher.counts() == (0, 0)


def test_a_run_that_ends_without_a_controller_says_what_to_do(tmp_path, monkeypatch, caplog):
    """A controller that never answers hides no other error."""

    def deaf(*argv, stdin=None):
        raise Unanswered(f"{argv[0]} failed: Unable to contact slurm controller")

    monkeypatch.setattr(slurm_launcher, "look", lambda job: {})
    monkeypatch.setattr(slurm_launcher, "STOP_WAIT_SECONDS", 1.0)
    launcher = make_launcher("slurm", tmp_path)
    launcher.start(0)
    monkeypatch.setattr(slurm_launcher, "ask", deaf)
    monkeypatch.setattr(slurm_launcher, "look", lambda job: deaf("squeue"))
    launcher.start(1)
    assert list(launcher.stop()) == list(launcher.stop()) == []  # `run` asks twice
    assert caplog.text.count("`scancel --name fmnist-hpo-0123456789ab -u ") == 1


def test_what_slurm_refuses_is_not_waited_for(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    launcher = make_launcher("slurm", tmp_path)
    launcher.start(0)
    launcher._options.append("--partition=none")
    with pytest.raises(SearchError, match="sbatch failed: .*Invalid partition"):
        launcher.start(1)
    launcher.stop()
