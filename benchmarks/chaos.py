"""Chaos: workers killed at random, the supervisor too; afterwards the study must be exact.

    uv run python benchmarks/chaos.py --minutes 5 --storage postgresql://user@host/database
    uv run python benchmarks/chaos.py --minutes 2        # on an SQLite file of its own

While it runs, restart the database or pull its network as you like. It then lets the study come to
its end and checks that exactly its lineages ended, that nothing runs or waits, that every lost
trial has exactly one successor, and that every curve is the one of an uninterrupted run.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROBLEMS = Path(__file__).parents[1] / "tests" / "problems"
sys.path.insert(0, str(PROBLEMS))

STEPS = 6  # of each trial


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done to the study and how it came out."""

    killed_workers: int
    killed_supervisors: int
    attempts: int
    lost: int
    faults: tuple[str, ...]  # broken promises; empty when all were kept


def chaos(
    directory: Path,
    storage: str,
    *,
    lineages: int,
    workers: int,
    kills: int,
    every_seconds: float = 1.0,
    events: Sequence[tuple[float, Callable[[], None]]] = (),
    seed: int = 0,
) -> Report:
    """Run one study under fire.

    Args:
        directory: for the study file, checkpoints and logs.
        kills: of random workers by SIGKILL, `every_seconds` apart; afterwards the study runs to
            its end in peace. The supervisor is killed, and started again, half-way.
        events: (share of the kills, what to do then), such as restarting the database.
    """
    from toy import toy_spec

    (directory / "chaos.toml").write_text(
        toy_spec(
            name="chaos",
            trials=lineages,
            extra=f"[fixed]\nsteps = {STEPS}\npause = 0.3\n"
            "[workers]\nbeat_seconds = 0.5\nmax_retries = 100000\n",
        )
    )
    generator = random.Random(seed)
    supervisor = _start(directory, storage, workers)
    due = sorted(events, key=lambda event: event[0])
    killed, supervisors = 0, 0
    try:
        while killed < kills and supervisor.poll() is None:
            time.sleep(every_seconds)
            victims = _victims(supervisor.pid, storage)
            if victims:
                killed += _kill(generator.choice(victims))
            while due and killed >= due[0][0] * kills:
                due.pop(0)[1]()
            if killed >= kills / 2 and not supervisors:
                supervisor.kill()
                supervisor.wait()
                supervisors += 1
                supervisor = _start(directory, storage, workers)
        supervisor.wait()
    finally:
        supervisor.kill()
        supervisor.wait()
    attempts, lost, faults = _judge(storage, lineages)
    return Report(
        killed_workers=killed,
        killed_supervisors=supervisors,
        attempts=attempts,
        lost=lost,
        faults=tuple(faults),
    )


def _start(directory: Path, storage: str, workers: int) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "FMNIST_HPO_STORAGE": storage,
        "PYTHONPATH": os.pathsep.join([str(PROBLEMS), os.environ.get("PYTHONPATH", "")]),
    }
    with (directory / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "search", "run", "chaos.toml", "--workers", str(workers)],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _victims(supervisor: int, storage: str) -> list[int]:
    """The workers that have a trial in hand: to kill one that is just starting is no art."""
    import search

    try:
        study = search.open("chaos", storage=storage)
    except search.SearchError:  # not created yet, or the database is away
        return []
    holders = {row.worker for row in study.ledger.rows() if row.worker is not None}
    study.storage.close()
    return [pid for pid in _children(supervisor) if _worker_name(pid) in holders]


def _worker_name(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return None
    return dict(entry.split("=", 1) for entry in environment if "=" in entry).get(
        "FMNIST_HPO_WORKER"
    )


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _judge(storage: str, lineages: int) -> tuple[int, int, list[str]]:
    """Attempts made, attempts lost, and every promise that was not kept."""
    from optuna.trial import TrialState
    from toy import whole_curve

    import search

    study = search.open("chaos", storage=storage)
    trials = study.trials
    faults = []
    ended = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    per_lineage = Counter(trial.user_attrs["lineage"] for trial in ended)
    if per_lineage != Counter(range(lineages)):
        faults.append(f"lineages ended {dict(per_lineage)}, each of {lineages} must end once")
    counts = study.ledger.counts()
    if counts.done != lineages:
        faults.append(f"the ledger says {counts.done} of {lineages} are done")
    for trial in trials:
        if not trial.state.is_finished():
            faults.append(f"trial {trial.number} is {trial.state.name}")
    successors = Counter(trial.user_attrs.get("retry_of") for trial in trials)
    lost = [trial for trial in trials if trial.user_attrs.get("reason") in ("lost", "stopped")]
    for trial in lost:
        if successors[trial.number] != 1:
            faults.append(f"trial {trial.number} has {successors[trial.number]} successors")
    for trial in ended:
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        if list(trial.intermediate_values.values()) != whole_curve(seed, trial.params["x"], STEPS):
            faults.append(f"the curve of trial {trial.number} is not an uninterrupted one")
    study.storage.close()
    return len(trials), len(lost), faults


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="under fire")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--storage", help="default: an SQLite file of its own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        report = chaos(
            Path(name),
            args.storage or f"sqlite:///{name}/chaos.db",
            lineages=max(8, round(args.minutes * 60 / 2)),
            workers=args.workers,
            kills=round(args.minutes * 60),
        )
    print(
        f"{report.killed_workers} workers and {report.killed_supervisors} supervisors killed; "
        f"{report.attempts} attempts, {report.lost} of them lost or stopped"
    )
    for fault in report.faults:
        print(f"BROKEN: {fault}")
    print("every promise was kept" if not report.faults else f"{len(report.faults)} faults")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
