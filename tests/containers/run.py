"""Brings docker-compose.yml up on an engine of its own, and breaks it while it works.

    sudo python tests/containers/run.py

A study of 24 trials with three workers: one worker is killed, one is stopped, the database is
killed and restarted. Needs Linux, root, and Debian's docker.io, docker-compose, iptables and
mmdebstrap; the images come from Debian's and Python's package servers, none from an image
registry. With TMPDIR=/dev/shm the engine's data lie in memory (6 GB), which spares a slow disk.
FMNIST_HPO_TEST_WHEELS names a directory of wheels that pip shall prefer, such as a torch for
processors without a GPU; TORCH_INDEX works as with compose.

Exit codes: 0 it held, 1 it did not, 77 skipped, because no engine can be started here.
"""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from engine import CannotRun, Engine, compose_command
from images import make_images
from stack import STUDY, Busy, Stack, until

TRIALS, STEPS, WORKERS = 24, 10, 3  # as in studies/tiny.toml
SKIPPED = 77

_started = time.monotonic()


def say(line: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f} s] {line}", flush=True)


def check_machine() -> None:
    """Raises CannotRun when something that an engine needs is missing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise CannotRun("an engine needs root; run it with sudo")
    for program in ("docker", "dockerd", "iptables", "mmdebstrap"):
        if shutil.which(program) is None:
            raise CannotRun(f"{program} is missing; install docker.io, iptables and mmdebstrap")
    compose_command()


def refuses_without_passwords(stack: Stack) -> None:
    """No password file: nothing starts that would listen, and the file is named."""
    printed = stack.refusal("up", "--detach")
    assert "postgres_password" in printed, printed
    stack.compose("down", "--volumes")


def kill_a_worker(stack: Stack) -> Busy:
    """SIGKILL a worker in the middle of a trial; which one, and what it had in hand."""
    victim = _midway(stack)
    stack.crash(victim.container)
    return victim


def _midway(stack: Stack, other_than: Busy | None = None) -> Busy:
    """A worker in the middle of a trial, as soon as there is one."""
    found: list[Busy] = []

    def look() -> bool:
        found[:] = [
            busy
            for busy in stack.busy()
            if 3 <= busy.step <= STEPS - 4
            and (other_than is None or busy.container != other_than.container)
        ]
        return bool(found)

    until("a worker is in the middle of a trial", 60, look)
    return found[0]


def stop_a_worker(stack: Stack, other_than: Busy) -> None:
    """A worker that is asked to stop releases its trial in time: code 75, not 137."""
    container = _midway(stack, other_than).container
    stack.engine.docker("stop", container)
    code = stack.state(container, "ExitCode")
    assert code == 75, f"a worker that was asked to stop ended with code {code}"
    assert "was released" in stack.engine.docker("logs", container)
    stack.engine.docker("start", container)


def restart_the_database(stack: Stack) -> None:
    """Kill the server while trials run; it recovers, and the workers wait for it."""
    until("two workers have a trial", 60, lambda: len(stack.busy()) >= 2)
    stack.compose("restart", "--timeout=0", "database")


def wait_for_the_end(stack: Stack) -> None:
    """All workers end by themselves, with code 0."""
    workers = stack.containers("worker")
    assert len(workers) == WORKERS
    until(
        "all workers have ended",
        120,
        lambda: not any(stack.state(worker, "Running") for worker in workers),
    )
    codes = [stack.state(worker, "ExitCode") for worker in workers]
    assert codes == [0] * WORKERS, f"workers ended with {codes}"


def check_exact(stack: Stack) -> dict[str, int]:
    """As many lineages as the budget ended, each COMPLETE once; how the other trials ended."""
    assert stack.query("select count(*), sum(done) from search_lineage") == [[str(TRIALS)] * 2]
    states = {
        state: int(n) for state, n in stack.query("select state, count(*) from trials group by 1")
    }
    assert states.keys() <= {"COMPLETE", "FAIL"}, states
    assert states["COMPLETE"] == TRIALS, states
    once = stack.query(
        "select count(distinct value_json) from trial_user_attributes join trials using (trial_id) "
        "where key = 'lineage' and state = 'COMPLETE'"
    )
    assert once == [[str(TRIALS)]], once
    assert stack.check_curves(STEPS) == TRIALS
    rows = stack.query(
        "select value_json, count(*) from trial_user_attributes where key = 'reason' group by 1"
    )
    return {reason.strip('"'): int(n) for reason, n in rows}


def check_resumed(stack: Stack, victim: Busy) -> None:
    """The killed trial has one successor, which went on after the last step and not before."""
    rows = stack.query(
        "select number, state from trials join trial_user_attributes a using (trial_id) "
        f"where a.key = 'lineage' and a.value_json = '{victim.lineage}' order by number"
    )
    assert [state for _, state in rows][-1] == "COMPLETE", rows
    assert [state for _, state in rows][:-1].count("COMPLETE") == 0, rows
    curves = stack.query(
        "select a.value_json::json -> 'first' ->> -1 from trial_user_attributes a "
        f"join trials using (trial_id) where number = {rows[-1][0]} and a.key = 'curves'"
    )
    first = float(curves[0][0])
    assert first > victim.step, f"killed after step {victim.step}, it began again at {first:g}"
    say(f"lineage {victim.lineage} was killed after step {victim.step}, went on at {first:g}")


def check_dashboard(stack: Stack) -> None:
    """It asks for a password, shows the study, and listens on loopback alone."""
    assert stack.log_in() == [STUDY]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
        address = probe.getsockname()[0]
    assert not address.startswith("127.")
    with socket.socket() as attempt:
        attempt.settimeout(3)
        code = attempt.connect_ex((address, stack.port))
    assert code != 0, f"the dashboard also listens on {address}"


def _healthy(stack: Stack, container: str) -> bool:
    health = stack.state(container, "Health")
    assert isinstance(health, dict)
    return health["Status"] == "healthy"


def check_containers(stack: Stack) -> None:
    """Rights, limits and health, and that no password stands where `docker inspect` shows it."""
    (dashboard,) = stack.containers("dashboard")
    until("the dashboard is healthy", 60, lambda: _healthy(stack, dashboard))
    assert stack.engine.docker("exec", dashboard, "id", "-u").strip() != "0"
    known = [file.read_text().strip() for file in stack.passwords.iterdir()]
    for service in ("database", "create", "worker", "dashboard"):
        for container in stack.containers(service):
            shown = stack.engine.docker("inspect", container)
            assert not any(password in shown for password in known), service
            limits = stack.inspect(container)["HostConfig"]
            assert isinstance(limits, dict)
            assert limits["PidsLimit"] > 0, service
            if service != "database":
                assert limits["ReadonlyRootfs"] is True, service
                assert limits["Memory"] > 0, service
    printed = stack.engine.docker("exec", dashboard, "fmnist-hpo", "status", STUDY)
    assert f"{TRIALS}/{TRIALS}" in printed, printed


def scenario(stack: Stack) -> None:
    """From an empty engine to a study that is whole."""
    refuses_without_passwords(stack)
    say("refused to start without passwords")
    stack.passwords = stack.passwords.with_name("passwords")
    stack.write_passwords()
    stack.compose("up", "--detach", f"--scale=worker={WORKERS}")
    say("the stack is up")
    victim = kill_a_worker(stack)
    say(f"killed worker {victim.container} at step {victim.step}")
    stop_a_worker(stack, victim)
    say("stopped a worker: code 75, its trial released; started it again")
    restart_the_database(stack)
    say("killed and restarted the database")
    check_dashboard(stack)
    wait_for_the_end(stack)
    restarts = stack.inspect(victim.container)["RestartCount"]
    assert restarts == 1, f"the killed worker was restarted {restarts} times"
    reasons = check_exact(stack)
    assert reasons.get("lost", 0) >= 1 and "stopped" not in reasons, reasons
    say(f"{TRIALS} of {TRIALS} ended, nothing is running; attempts that ended early: {reasons}")
    check_resumed(stack, victim)
    check_containers(stack)
    check_dashboard(stack)
    stack.compose("up", "--detach", f"--scale=worker={WORKERS}")
    wait_for_the_end(stack)
    assert check_exact(stack) == reasons
    say("brought up once more: the study is as it was")


def main() -> int:
    """Returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # cleans up as well
    directory = Path(tempfile.mkdtemp(prefix="containers-"))
    engine = None
    try:
        check_machine()
        engine = Engine(directory)
        say(f"an engine of our own; {' '.join(compose_command())}")
        make_images(engine, directory)
        say("stand-ins for python:3.11-slim and postgres:18")
        stack = Stack(engine, directory / "no-passwords")
        stack.compose("build")
        say("our image is built")
        try:
            scenario(stack)
        except Exception:
            print(stack.compose("logs", "--tail=40"), file=sys.stderr)
            raise
        finally:
            stack.compose("down", "--volumes", "--timeout=1")
    except CannotRun as reason:
        print(
            f"\n{'!' * 78}\nSKIPPED, the containers were NOT tested: {reason}\n{'!' * 78}",
            flush=True,
        )
        return SKIPPED
    finally:
        if engine is not None:
            engine.stop()
        shutil.rmtree(directory, ignore_errors=True)
    say("the containers hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
