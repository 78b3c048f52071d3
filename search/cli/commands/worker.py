"""`worker`: join a study with one worker."""

import argparse
import os
import threading

from search.cli.application import Application
from search.cli.arguments import CHECKPOINTS_HELP, add_storage
from search.cli.find_study import must_exist
from search.errors import StorageError
from search.storage import SHORT_LOCK_WAIT_MS, Retry, open_storage
from search.study import Study, open_study
from search.supervisor.run import annotate
from search.worker.contract import PARENT_VARIABLE, worker_name
from search.worker.worker import stop_on_signals, work

EXAMPLE = "{prog} worker cnn --storage postgresql://user@host/studies"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help="the name of a study in the storage")
    parser.add_argument("--checkpoints", metavar="PLACE", help=CHECKPOINTS_HELP)
    add_storage(parser)
    app.add_options("worker", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    must_exist(args.storage, args.study)
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


def _so_far(study: Study) -> str:
    counts = study.ledger.counts()
    return f"{counts.done} of {counts.total} trials ended"
