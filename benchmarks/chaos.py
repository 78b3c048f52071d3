"""Chaos: faults are done to a running study; afterwards the study must be exact.

    uv run python benchmarks/chaos.py --minutes 5 --storage postgresql://user@host/database
    uv run python benchmarks/chaos.py --minutes 2        # on an SQLite file of its own
    uv run python benchmarks/chaos.py --minutes 2 --pauses   # of a study whose trials are paused
    uv run python benchmarks/chaos.py --minutes 2 --extend 10   # N become N + 10 half-way
    uv run python benchmarks/chaos.py --fault stop --fault swallow --storage postgresql://...

Without `--fault`, workers are killed at random, and the supervisor too. While it runs, restart the
database or pull its network as you like. Each `--fault` is a study of its own:

    stop               a worker is stopped inside a transaction, with a lock that all others want
    network            the network of a worker is cut, and the worker killed: nobody is told
    swallow            the answers of all open connections are lost, the connections stay open
    statement-timeout  the server cancels every statement that takes longer than 3 ms
    disk-full          the disk of checkpoints, logs and, with SQLite, the database is full

The study then comes to its end, and is checked: exactly its lineages ended, nothing runs or waits,
every lost trial has exactly one successor and no other trial has one, every attempt is on record,
no trial ended by an error, and every curve is the one of an uninterrupted run. With `--pauses` the
sampler is freeze-thaw with a budget of steps, and every other worker is asked to stop (SIGTERM)
instead of killed: exactly the lineages that began have ended, complete or paused at last. With
`--extend` the study is amended half-way, under fire: exactly N + M lineages have ended, and the
trials of those that were added bear the number of an amendment.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import faults
from chaos_study import (
    children,
    environment,
    extend,
    holders,
    judge,
    kill,
    start,
    victims,
    wait_until,
    write_study,
)
from faults import Unavailable

FAULTS = ("stop", "network", "swallow", "statement-timeout", "disk-full")
FAULT_S = 6.0  # for which a fault lasts: two leases
END_S = 240.0  # until a study under a fault must have come to its end


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
    pauses: bool = False,
    more: int = 0,
) -> Report:
    """Run one study under fire.

    Args:
        directory: for the study file, checkpoints and logs.
        kills: of random workers by SIGKILL, `every_seconds` apart; afterwards the study runs to
            its end in peace. The supervisor is killed, and started again, half-way.
        events: (share of the kills, what to do then), such as restarting the database.
        pauses: whether trials are paused; every other worker is then ended by SIGTERM.
        more: lineages that amendments add half-way, the last one of them by hand.
    """
    write_study(directory, lineages, pauses=pauses)
    generator = random.Random(seed)
    supervisor = start(directory, storage, workers)
    due = sorted(events, key=lambda event: event[0])
    killed, supervisors = 0, 0
    try:
        while killed < kills and supervisor.poll() is None:
            time.sleep(every_seconds)
            found = victims(supervisor.pid, storage)
            if found:
                number = signal.SIGTERM if pauses and killed % 2 else signal.SIGKILL
                killed += kill(generator.choice(found), number)
            while due and killed >= due[0][0] * kills:
                due.pop(0)[1]()
            if killed >= kills / 2 and not supervisors:
                supervisor.kill()
                supervisor.wait()
                supervisors += 1
                supervisor = start(directory, storage, workers)
                if more:
                    extend(storage, more)
        code = supervisor.wait()
    finally:
        supervisor.kill()
        supervisor.wait()
    attempts, lost, broken = judge(
        storage, lineages, more=more if supervisors else 0, pauses=pauses
    )
    if code != 0:
        broken.insert(0, _gave_up(code, directory))
    return Report(
        killed_workers=killed,
        killed_supervisors=supervisors,
        attempts=attempts,
        lost=lost,
        faults=tuple(broken),
    )


def under_fault(
    fault: str, directory: Path, storage: str, *, lineages: int, workers: int
) -> Report:
    """Run one study to its end, and do one of FAULTS to it on the way.

    Args:
        directory: for the study file, checkpoints and logs.
        storage: a URL by which the database is reached past the fault.

    Raises:
        faults.Unavailable: this machine or this storage does not allow the fault.
    """
    with ExitStack() as undo:
        through = storage
        if fault == "disk-full":
            undo.enter_context(faults.small_disk(directory))
            if storage.startswith("sqlite"):
                storage = through = f"sqlite:///{directory / 'chaos.db'}"
        if fault == "swallow":
            proxy = faults.Proxy(storage)
            undo.callback(proxy.close)
            through = proxy.url
        write_study(directory, lineages)
        alone: subprocess.Popen[bytes] | None = None
        if fault == "network":
            alone, cut = _alone_in_a_network(undo, directory, storage)
        supervisor = start(directory, through, workers)
        undo.callback(_end, supervisor)
        wait_until(lambda: holders(storage), "a worker has a trial")
        if fault == "stop":
            faults.stop_inside_a_transaction(
                storage, lambda: children(supervisor.pid), for_seconds=FAULT_S
            )
        elif fault == "network":
            assert alone is not None
            cut()
            alone.kill()
            alone.wait()
        elif fault == "swallow":
            for _ in range(2):
                proxy.swallow()
                time.sleep(FAULT_S)
        elif fault == "statement-timeout":
            faults.statement_timeout(storage, milliseconds=3, for_seconds=FAULT_S)
        else:
            faults.fill_disk(directory, for_seconds=FAULT_S)
        try:
            code: int | str = supervisor.wait(END_S)
        except subprocess.TimeoutExpired:
            code = "none: it did not come to its end"
        attempts, lost, broken = judge(storage, lineages)
        if code != 0:
            broken.append(_gave_up(code, directory))
    return Report(
        killed_workers=int(fault == "network"),
        killed_supervisors=0,
        attempts=attempts,
        lost=lost,
        faults=tuple(broken),
    )


def _gave_up(code: int | str, directory: Path) -> str:
    log = (directory / "supervisor.log").read_text(errors="replace").splitlines()
    return f"the supervisor's exit code is {code}: {log[-1:]}"


def _alone_in_a_network(
    undo: ExitStack, directory: Path, storage: str
) -> tuple["subprocess.Popen[bytes]", Callable[[], None]]:
    """A worker behind a cable of its own that has a trial in hand, and what pulls the cable."""
    network = faults.Network()
    undo.callback(network.close)
    proxy = faults.Proxy(storage, host=network.host)
    undo.callback(proxy.close)
    subprocess.run(
        [sys.executable, "-m", "search", "create", "chaos.toml"],
        cwd=directory, env=environment(storage), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    worker = subprocess.Popen(
        network.inside([sys.executable, "-m", "search", "worker", "chaos"]),
        cwd=directory, env=environment(proxy.url), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    undo.callback(_end, worker)
    wait_until(lambda: holders(storage), "the worker in the network has a trial")
    return worker, network.cut


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="under fire")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--storage", help="default: an SQLite file of its own")
    parser.add_argument("--pauses", action="store_true", help="trials are paused and go on")
    parser.add_argument("--extend", type=int, default=0, metavar="N", help="trials added half-way")
    parser.add_argument("--fault", action="append", choices=FAULTS, default=[])
    args = parser.parse_args()
    if args.fault:
        return max([_show_fault(fault, args) for fault in args.fault])
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        report = chaos(
            Path(name),
            args.storage or f"sqlite:///{name}/chaos.db",
            lineages=max(8, round(args.minutes * 60 / 2)),
            workers=args.workers,
            kills=round(args.minutes * 60),
            pauses=args.pauses,
            more=args.extend,
        )
    return _show(report)


def _show_fault(fault: str, args: argparse.Namespace) -> int:
    """Run a study under one fault, on an SQLite file or in the storage, where it is deleted."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        storage = args.storage or f"sqlite:///{name}/chaos.db"
        print(f"{fault}: ", end="", flush=True)
        try:
            report = under_fault(
                fault, Path(name) / fault, storage, lineages=16, workers=args.workers
            )
        except Unavailable as reason:
            print(f"SKIPPED, {reason}")
            return 0
        if args.storage:
            import optuna

            optuna.delete_study(study_name="chaos", storage=storage)
        return _show(report)


def _show(report: Report) -> int:
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
