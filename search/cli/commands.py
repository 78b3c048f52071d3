"""What each generic verb of the command line does; returns its exit code.

Nothing heavy is imported at the top, so that `--help` answers at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.cli.application import PASSWORD_VARIABLE, Application
from search.errors import SearchError, SpecError, StudyNotFound

if TYPE_CHECKING:
    from search.spec import StudySpec
    from search.study import Study
    from search.study.status import Status


def open_named(args: argparse.Namespace, app: Application) -> "Study":
    """Open the study that the user named by file or by name.

    Raises:
        SearchError: no such file, or no such study in the storage.
    """
    from search.storage import open_storage
    from search.study import open_study

    app.prepare(args)
    _must_exist(args.storage, args.study)
    checkpoints = getattr(args, "checkpoints", None)
    name = args.study
    if name.endswith(".toml"):
        from search.spec import read_spec

        name = read_spec(Path(name)).name
    return open_study(name, open_storage(args.storage), checkpoints=checkpoints)


def _must_exist(url: str, study: str | None) -> None:
    """Looking at a study must not create an empty database."""
    from search.storage import is_missing_file

    if is_missing_file(url):
        missing = "" if study is None else f", so no study {study!r} in it"
        raise SearchError(
            f"there is no storage {url}{missing}; start a study with `run`, or name another "
            "storage with --storage"
        )


def find_spec(name: str, folder: Path | None) -> "StudySpec | None":
    """The study file a user means: a path, or the name of one that ships; None when neither.

    Raises:
        SpecError: the path does not exist, or the file is wrong.
    """
    from search.spec import read_spec

    path, shipped = Path(name), _shipped(folder)
    if name.endswith(".toml") or (os.sep in name and path.is_file()):
        if not path.exists():
            raise SpecError(
                f"cannot read the study file {name}: it does not exist; "
                f"{_nearest_file(path, shipped)}"
            )
        return read_spec(path)
    found = shipped.get(path.name)
    if found is None or not found.with_suffix("").match(name):  # classical/svm is svm
        return None
    return read_spec(found)


def _nearest_file(path: Path, shipped: Collection[str]) -> str:
    """What to say to who named a study file that is not there."""
    if path.stem in shipped:
        return f"one of that name ships: use {path.stem!r}"
    beside = [file.stem for file in path.parent.glob("*.toml")]
    for near in difflib.get_close_matches(path.stem, [*beside, *shipped], n=1):
        named = path.with_stem(near) if near in beside else f"{near!r}, which ships"
        return f"did you mean {named}?"
    return f"check the path, or use one that ships: {', '.join(sorted(shipped)) or 'none'}"


def _shipped(folder: Path | None) -> dict[str, Path]:
    """The study files that ship, in folders or not, by their names."""
    return {} if folder is None else {file.stem: file for file in folder.rglob("*.toml")}


def run_study(app: Application, args: argparse.Namespace) -> int:
    from search.cli.progress import make_progress
    from search.storage import SHORT_LOCK_WAIT_MS, Retry, is_missing_file, open_storage
    from search.study import create_study, open_study
    from search.supervisor.fleet import default_workers
    from search.supervisor.run import Interrupted, run
    from search.text import clock

    app.prepare(args)
    spec = find_spec(args.study, app.studies)
    say = lambda line: print(line, flush=True)  # noqa: E731
    if spec is None and is_missing_file(args.storage):
        raise _unknown(args.study, app)  # before a database is created for a misspelt name
    storage = open_storage(args.storage, retry=Retry(say), lock_wait_ms=SHORT_LOCK_WAIT_MS)
    if spec is not None:
        study = create_study(spec, storage, checkpoints=args.checkpoints, say=say)
    else:
        try:
            study = open_study(args.study, storage, checkpoints=args.checkpoints, say=say)
        except StudyNotFound as error:
            raise _unknown(args.study, app, error.known) from None
    status = study.status()
    gpus = app.gpus()
    workers = args.workers or default_workers(args.threads, len(gpus))
    workers = min(workers, max(1, status.budget - status.ended))
    _print_plan(study, app, workers, args.threads, gpus)
    if status.done:
        print(f"study {study.name!r} is finished: {status.ended} of {status.budget} trials ended")
    else:
        if status.ended:
            print(f"going on: {status.ended} of {status.budget} trials ended before")
        if study.storage.dialect == "sqlite" and workers > SQLITE_WORKERS:
            print(
                f"warning: {workers} workers on SQLite wait for each other's writes; "
                "use Postgres above 4 (--storage embedded starts a private one)"
            )
        try:
            status = run(
                study,
                workers=workers,
                threads=args.threads,
                gpus=gpus,
                logs=Path("runs") / study.name / "logs",
                progress=make_progress(),
            )
        except Interrupted as stopped:
            print(f"{stopped}; the same command goes on")
            return 130
        print(_ended(status, clock(status.elapsed_seconds)), flush=True)
    try:
        return app.finish(study, args)
    except KeyboardInterrupt:
        print(f"study {study.name!r} was stopped after its last trial; the same command goes on")
        return 130


SQLITE_WORKERS = 4  # above this many, writers wait for each other noticeably


def _unknown(name: str, app: Application, stored: Sequence[str] = ()) -> SpecError:
    shipped = sorted(_shipped(app.studies))
    near = difflib.get_close_matches(name, [*shipped, *stored], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"shipped: {', '.join(shipped) or 'none'}"
    if stored and not near:
        hint += f"; in the storage: {', '.join(sorted(stored))}"
    return SpecError(f"no study file and no study is called {name!r}; {hint}")


def _print_plan(
    study: "Study", app: Application, workers: int, threads: int, gpus: tuple[str, ...]
) -> None:
    from search.text import counted

    spec = study.spec
    budget = counted(spec.trials, "trial")
    if spec.hours is not None:
        budget += f" or {spec.hours:g} hours, whichever comes first"
    lines = [
        ("study", f"{spec.name} ({spec.hash[:12]})"),
        *app.describe(study),
        (
            "workers",
            f"{workers} x {counted(threads, 'thread')}"
            + (f", GPU {', '.join(gpus)}" if gpus else ""),
        ),
        ("storage", study.storage.url),
        ("budget", f"{budget}; sampler {spec.sampler.name}, pruner {spec.pruner.name}"),
    ]
    for label, text in lines:
        print(f"{label:<10} {text}", flush=True)


def _ended(status: "Status", elapsed: str) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(status.reasons.items()))
    return (
        f"{status.ended} of {status.budget} trials ended in {elapsed}: {status.complete} complete, "
        f"{status.pruned} pruned, {status.failed} failed" + (f" ({reasons})" if reasons else "")
    )


def run_worker(app: Application, args: argparse.Namespace) -> int:
    import threading

    from search.errors import StorageError
    from search.storage import SHORT_LOCK_WAIT_MS, Retry, open_storage
    from search.study import open_study
    from search.supervisor.run import annotate
    from search.worker.contract import PARENT_VARIABLE, worker_name
    from search.worker.worker import stop_on_signals, work

    app.prepare(args)
    _must_exist(args.storage, args.study)
    stop = threading.Event()
    name = worker_name()

    def say(line: str) -> None:
        print(f"{name}: {line}", flush=True)

    stop_on_signals(stop, say)
    storage = None
    while storage is None:
        try:
            storage = open_storage(args.storage, retry=Retry(say), lock_wait_ms=SHORT_LOCK_WAIT_MS)
        except StorageError as error:
            # The supervisor had it open, so it is only away; without one it may not be there.
            if PARENT_VARIABLE not in os.environ or stop.wait(1.0):
                raise
            say(str(error))
    study = open_study(args.study, storage, checkpoints=args.checkpoints, say=say)
    supervised = PARENT_VARIABLE in os.environ  # by one who tells how the study goes
    if not supervised:
        say(f"joins study {study.name!r}, {_so_far(study)}; Ctrl-C hands its trial back")
    work(study, name=name, stop=stop, say=say)
    # What the note imports takes longer than a stop may.
    if not supervised and not stop.is_set():
        annotate(study, say=say)
        say(f"leaves study {study.name!r}, {_so_far(study)}")
    return 0


def _so_far(study: "Study") -> str:
    counts = study.ledger.counts()
    return f"{counts.done} of {counts.total} trials ended"


def create_study(app: Application, args: argparse.Namespace) -> int:
    from search.storage import open_storage
    from search.study import create_study
    from search.text import counted

    app.prepare(args)
    spec = find_spec(args.study, app.studies)
    if spec is None:
        raise _unknown(args.study, app)
    storage = open_storage(args.storage)
    create_study(spec, storage, checkpoints=args.checkpoints)
    print(
        f"study {spec.name!r} is in {storage.url}, {counted(spec.trials, 'trial')}; "
        f"start workers with: {app.prog} worker {spec.name} --storage ..."
    )
    return 0


def show_plan(app: Application, args: argparse.Namespace) -> int:
    import json

    import optuna

    from search.cli.plan_text import print_plan
    from search.plan.plan import make_plan
    from search.study import validate
    from search.supervisor.fleet import default_workers

    app.prepare(args)
    spec = find_spec(args.study, app.studies)
    if spec is None:
        raise _unknown(args.study, app)
    gpus = app.gpus()
    workers = args.workers or default_workers(1, len(gpus))
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces studies in memory too
    plan = make_plan(spec, validate(spec), workers=workers, threads=1, gpus=gpus)
    if args.json:
        print(json.dumps(plan.to_json(), indent=2))
    else:
        print_plan(plan)
    return 0


def show_dashboard(args: argparse.Namespace) -> int:
    from search.dashboard import open_pictures, serve
    from search.storage import open_storage

    password = os.environ.get(PASSWORD_VARIABLE)
    if args.password_file is not None:
        try:
            password = args.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SearchError(
                f"cannot read the password file {args.password_file}: "
                f"{getattr(error, 'strerror', None) or 'it is no UTF-8 text'}; name a text file "
                "with the password in it"
            ) from error
    _must_exist(args.storage, None)
    serve(
        open_storage(args.storage).optuna,
        host=args.host,
        port=args.port,
        password=password,
        allow_writes=args.allow_writes,
        artifact_store=open_pictures(make=args.allow_writes),
    )
    return 0


def show_status(app: Application, args: argparse.Namespace) -> int:
    from search.cli.tables import print_status, print_studies, watch_status

    if args.study is None:
        if args.watch:
            raise SearchError("--watch follows one study, got none; name it")
        print_studies(_all_studies(args.storage))
        return 0
    study = open_named(args, app)
    if args.watch:
        watch_status(study)
    else:
        print_status(study.status())
    return 0


def _all_studies(url: str) -> "list[Status]":
    from search.storage import open_storage
    from search.study import open_study, study_names

    _must_exist(url, None)
    storage = open_storage(url)
    names = study_names(storage)
    if not names:
        raise SearchError(f"there is no study in {storage.url} yet; start one with `run`")
    return [open_study(name, storage).status() for name in names]


def list_trials(app: Application, args: argparse.Namespace) -> int:
    from search.cli.tables import print_trials, write_csv
    from search.study.cv_results import write_cv_results

    if args.format != "trials" and not args.csv:
        raise SearchError(f"--format {args.format} is a form of --csv; add --csv")
    study = open_named(args, app)
    if args.format == "cv_results":
        write_cv_results(study, sys.stdout)
    elif args.csv:
        write_csv(study, sys.stdout)
    else:
        print_trials(study)
    return 0


def show_best(app: Application, args: argparse.Namespace) -> int:
    from search.cli.tables import print_best

    print_best(open_named(args, app), as_json=args.json)
    return 0


def reproduce_trial(app: Application, args: argparse.Namespace) -> int:
    from search.cli.tables import EpochPrinter, print_verdict
    from search.supervisor.run import reproduce

    study = open_named(args, app)
    trial = study.trial(args.trial)
    print(f"trial {trial.number} of {study.name!r}: stored figures, then the new ones", flush=True)
    replay = reproduce(study, trial.number, EpochPrinter())
    print_verdict(replay)
    app.reproduced(study, replay.trial)
    return 0 if replay.identical else 3


def copy_to(args: argparse.Namespace) -> int:
    from search.ledger.copy_study import copy_study
    from search.storage import open_storage

    _must_exist(args.source, args.study)
    copy_study(args.study, open_storage(args.source), open_storage(args.target))
    print(f"study {args.study!r} was copied; go on with --storage and the new address")
    return 0
