"""A study on a real Slurm: killed workers, requeues, preemption, time limits, a lost node."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from exact import check_exact

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(400)]

FAST = {"pause": 0.1, "steps": 5}


def holders(study):
    """Process ids of the workers that hold a lease, by the worker's name."""
    names = {row.worker for row in study.ledger.rows() if row.worker}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            for variable in variables:
                name = variable.removeprefix(b"FMNIST_HPO_WORKER=").decode(errors="replace")
                if name in names and b"worker\0" in command and b"bash" not in command:
                    found[name] = int(entry.name)
    return found


def ended(study):
    return study.ledger.counts().done


def test_workers_and_supervisor_may_be_killed_and_the_same_command_tops_up(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=24, pause=0.5, steps=5)
    first = run.start("--on", "slurm", "--workers", "3")
    until(lambda: ended(study) >= 2 and holders(study), "trials end on Slurm")
    os.kill(next(iter(holders(study).values())), signal.SIGKILL)
    until(lambda: ended(study) >= 5, "trials go on after a worker was killed")
    first.kill()
    first.communicate()
    before = ended(study)
    until(lambda: ended(study) > before, "workers go on without their supervisor")
    again = run.start("--on", "slurm", "--workers", "3")
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert "workers of an earlier command are there" in output
    check_exact(study)
    assert slurm.command("squeue", "-h") == ""


def test_a_task_that_is_requeued_and_one_that_is_preempted_release_their_trials(
    slurm, runner, until
):
    run = runner(slurm.environment)
    study = run.create(trials=14, **FAST)
    process = run.start("--on", "slurm", "--workers", "2", "--", "--partition=scavenge")
    until(lambda: len(holders(study)) == 2, "both workers hold a trial")
    task = slurm.command("squeue", "-h", "--array", "-t", "R", "-o", "%i").split()[0]
    slurm.command("scontrol", "requeue", task)
    until(lambda: ended(study) >= 4, "trials go on after a requeue")
    slurm.command("sbatch", "-p", "main", "-N2", "--exclusive", "-o", "/dev/null",
                  "--wrap", "sleep 2")  # fmt: skip
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output
    check_exact(study)
    lost = [t for t in study.trials if t.user_attrs.get("reason") == "lost"]
    assert lost == []  # all of them were released


def test_a_study_goes_on_over_time_limits_without_any_supervisor(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=8, pause=2.0, steps=6)
    process = run.start("--on", "slurm", "--workers", "2", "--detach", "--", "--time=1")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    until(lambda: holders(study), "a worker holds a trial")
    status, _ = run.command("status", "toy").communicate(timeout=100)
    assert re.search(r"on Slurm +[12] running, [01] queued \(job \d+\); logs in /.*/logs", status)
    until(lambda: ended(study) == 8, "the study ends over time limits", seconds=300)
    check_exact(study)
    assert study.ledger.counts().lost_attempts == 0


def test_a_node_that_crashes_costs_no_retry(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=10, **FAST)
    process = run.start("--on", "slurm", "--workers", "2", "--", "--nodelist=n1")
    until(lambda: ended(study) >= 2 and len(holders(study)) == 2, "trials end on the node")
    slurm.crash_node("n1")
    until(lambda: "n1" in slurm.command("sinfo", "-h", "-R", "-N"), "Slurm sees it", seconds=90)
    slurm.start_node("n1")
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output
    check_exact(study)


def test_ctrl_c_releases_everywhere_and_the_script_can_be_shown_first(slurm, runner, until):
    run = runner(slurm.environment)
    study = run.create(trials=50, pause=0.5, steps=5)
    shown = run.start("--on", "slurm", "--workers", "2", "--dry-run", "--", "--time=10")
    script, _ = shown.communicate(timeout=60)
    assert "#SBATCH --time=10" in script
    assert "#SBATCH --array=0-1" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert study.storage.address not in script
    process = run.start("--on", "slurm", "--workers", "2")
    until(lambda: len(holders(study)) == 2, "both workers hold a trial")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130, output
    until(lambda: slurm.command("squeue", "-h") == "", "no task is left")
    assert study.ledger.counts().running == 0
    assert study.ledger.counts().lost_attempts == 0
