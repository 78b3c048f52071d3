"""`run`: run a study to its end, or go on with it."""

import argparse
import logging
import threading
from collections.abc import Sequence

from search import attributes
from search.cli.application import Application
from search.cli.arguments import (
    CHECKPOINTS_HELP,
    WORKERS_HELP,
    add_storage,
    log_level,
    place_here,
    positive,
)
from search.cli.engines import LOCAL, add_engine, check_engine, make_launcher
from search.cli.find_study import add_overrides, find_spec, overrides_of, unknown_study
from search.cli.hints import storage_option
from search.cli.progress import make_progress
from search.errors import SearchError, StudyNotFound
from search.ledger.by_hand import retry_failed
from search.logs import protect_output, show_records
from search.storage import SHORT_LOCK_WAIT_MS, is_missing_file, open_storage
from search.study import NewStudy, Study, create_study_at, open_study
from search.study.confirmation.make import confirming_study
from search.study.status import Status
from search.supervisor.launchers import Launcher, Scripted
from search.supervisor.launchers.local import default_workers
from search.supervisor.run import Interrupted, annotate, run
from search.text import clock, counted

log = logging.getLogger(__name__)

EXAMPLE = "{prog} run studies/quick.toml --workers 2"
PASSES_ON = True  # what stands behind `--`, to the engine
SQLITE_WORKERS = 4  # above this many, writers wait for each other noticeably


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of a study")
    parser.add_argument("--workers", type=positive, metavar="N", help=WORKERS_HELP)
    parser.add_argument(
        "--threads", type=positive, metavar="N", default=1, help="of each worker (default: 1)"
    )
    add_overrides(parser)
    parser.add_argument("--checkpoints", type=place_here, metavar="PLACE", help=CHECKPOINTS_HELP)
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="give each failed trial (error, out of memory, lost) of a finished or halted study a "
        "new trial with the same parameters",
    )
    add_engine(parser)
    add_storage(parser)
    app.add_options("run", parser)
    parser.set_defaults(passed_on=[])


def main(args: argparse.Namespace, app: Application) -> int:
    check_engine(args)
    asked = threading.Event()
    protect_output(asked.set)  # a study that nobody watches any more stops
    show_records(make_progress().say, level=log_level(args))
    study = _create_or_open(args, app)
    if attributes.CONFIRMS in study.ledger.attrs:
        raise SearchError(
            f"study {study.name!r} holds the repeats that confirm another study; run that one, "
            "which goes on with them"
        )
    if _exports(args):
        app.check(study.spec, study.problem, study, args)
    while True:
        seen = len(study.amendments)
        code = _search(study, args, app, asked)
        if code is None and study.spec.confirm is not None:
            code = _confirm(study, args, app, asked)
        if code is not None:
            return code
        if study.status().over and len(study.amendments) == seen:
            break
        args.retry_failed = False  # each of them got its other try
        print(f"study {study.name!r} was changed meanwhile, so it goes on", flush=True)
    try:
        return app.finish(study, args)
    except KeyboardInterrupt:
        print(f"study {study.name!r} was stopped after its last trial; the same command goes on")
        return 130


def _confirm(
    study: Study, args: argparse.Namespace, app: Application, asked: threading.Event
) -> int | None:
    """Train the best trials of a study again; the exit code where the command ends with that."""
    confirming = confirming_study(study)
    if confirming is None:
        print("nothing to confirm: no trial is complete", flush=True)
        return None
    code = _search(confirming, args, app, asked, of=study)
    if code is None:
        annotate(study)
    return code


def _search(
    study: Study,
    args: argparse.Namespace,
    app: Application,
    asked: threading.Event,
    *,
    of: Study | None = None,
) -> int | None:
    """Run a study to its end; the exit code where the command ends with that.

    Args:
        of: the study whose best trials this one trains again; None: it is a search.
    """
    progress = make_progress()
    show_records(progress.say, level=log_level(args))
    status = study.status()
    if status.held_since is not None:
        raise SearchError(
            f"study {study.name!r} was paused on {status.held_since:%Y-%m-%d %H:%M} UTC; "
            f"let it go on with `resume {study.name}` first"
        )
    gpus = app.gpus() if args.on == LOCAL else ()
    launcher = make_launcher(args, study, gpus)
    if args.retry_failed:
        retried = counted(retry_failed(study.ledger), "failed trial")
        log.info("%s%s to run again", retried, f" of study {study.name!r}" if of else "")
        status = study.status()
    over = status.over and status.halted is None  # what a halt ended is repeated
    workers = args.workers or default_workers(args.threads, len(gpus))
    workers = min(workers, max(1, status.budget - status.ended))
    if args.dry_run and isinstance(launcher, Scripted):
        print(launcher.script(workers), end="")
        return 0
    if of is None:
        _print_head(study, app.describe(study), launcher, workers, args.threads, gpus)
    elif not over:
        print(f"{'confirming':<10} {_repeats(of, study)}", flush=True)
    if over:
        print(f"study {study.name!r} is finished: {status.ended} of {status.budget} trials ended")
    else:
        if status.ended:
            print(f"going on: {status.ended} of {status.budget} trials ended before")
        if study.storage.dialect == "sqlite" and workers > SQLITE_WORKERS:
            print(
                f"warning: {workers} workers on SQLite wait for each other's writes; "
                "use Postgres above 4 (--storage embedded starts a private one)"
            )
        if args.detach:
            study.ledger.resume()
            launcher.start(workers)
            follow = f"{app.prog} status {study.name} --watch{storage_option(args.storage)}"
            print(f"submitted; `{follow}` follows it")
            return 0
        if args.on == LOCAL:
            study.checkpoints.check_writable()
        try:
            status = run(study, launcher, workers=workers, progress=progress, asked=asked)
        except Interrupted as stopped:
            print(f"{stopped}; the same command goes on")
            return 130
        print(_summary(status), flush=True)
    if status.failed:
        print(_failed_hint(status, study, of or study, app, args.storage), flush=True)
    return None


def _repeats(study: Study, confirming: Study) -> str:
    """What the confirmation of a study trains, in a few words."""
    confirm, trials = study.spec.confirm, confirming.spec.trials
    assert confirm is not None
    splits = "reshuffled splits" if confirm.reshuffled else "the same split"
    best = counted(trials // confirm.seeds, "trial")
    return f"the best {best}, {confirm.seeds} seeds each on {splits}, in study {confirming.name!r}"


def _exports(args: argparse.Namespace) -> bool:
    """Whether this command goes on to the end of the study."""
    return not (args.detach or args.dry_run)


def _create_or_open(args: argparse.Namespace, app: Application) -> Study:
    spec = find_spec(args.study, app.studies, overrides_of(args))
    if spec is None and is_missing_file(args.storage):
        raise unknown_study(args.study, app.studies)  # a misspelt name must not create a database

    def check(new: NewStudy) -> None:
        if _exports(args):
            app.check(new.spec, new.problem, None, args)

    if spec is not None:
        return create_study_at(
            spec,
            args.storage,
            checkpoints=args.checkpoints,
            lock_wait_ms=SHORT_LOCK_WAIT_MS,
            check=check,
        )
    storage = open_storage(args.storage, lock_wait_ms=SHORT_LOCK_WAIT_MS)
    try:
        study = open_study(args.study, storage, checkpoints=args.checkpoints)
    except StudyNotFound as error:
        raise unknown_study(args.study, app.studies, error.known) from None
    if overrides_of(args):
        raise SearchError(
            f"--set and --name change a study file, got the study {args.study!r} of the storage, "
            "whose spec is frozen; name the file"
        )
    return study


def _print_head(
    study: Study,
    described: Sequence[tuple[str, str]],
    launcher: Launcher,
    workers: int,
    threads: int,
    gpus: tuple[str, ...],
) -> None:
    spec = study.spec
    lines = [
        ("study", f"{spec.name} ({spec.hash[:12]})"),
        *described,
        (
            "workers",
            f"{workers} x {counted(threads, 'thread')} on {launcher.where}"
            + (f", GPU {', '.join(gpus)}" if gpus else ""),
        ),
        ("storage", study.storage.url),
        *(("amended", str(one)) for one in study.amendments),
        ("budget", f"{spec.budget}; sampler {spec.sampler.name}, pruner {spec.pruner.name}"),
    ]
    for label, text in lines:
        print(f"{label:<10} {text}", flush=True)


def _failed_hint(status: Status, study: Study, of: Study, app: Application, storage: str) -> str:
    option = storage_option(storage)
    why = f"`{app.prog} trials {study.name}{option}` shows why trials failed"
    if not status.repeatable:
        return why
    return f"{why}, `{app.prog} run {of.name} --retry-failed{option}` repeats them"


def _summary(status: Status) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(status.reasons.items()))
    return (
        f"{status.ended} of {status.budget} trials ended in {clock(status.elapsed_seconds)}: "
        f"{status.complete} complete, {status.pruned} pruned, {status.failed} failed"
        + (f" ({reasons})" if reasons else "")
        + (f"; {status.ended_by.text}" if status.ended_by else "")
    )
