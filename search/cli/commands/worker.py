"""`worker`: join a study with one worker."""

import argparse
import logging
import os
import sys
import threading
from functools import partial

from search.cli.application import Application
from search.cli.arguments import CHECKPOINTS_HELP, add_storage, log_level, place
from search.cli.find_study import must_exist
from search.cli.progress import PlainProgress
from search.errors import SearchError, StorageError, WrongVersion
from search.logs import protect_output, show_records
from search.storage import SHORT_LOCK_WAIT_MS, Storage, open_storage
from search.study import Study, open_study
from search.study.confirmation.make import confirming_study
from search.supervisor.run import annotate
from search.worker.contract import (
    PARENT_VARIABLE,
    SUPERVISED_VARIABLE,
    Left,
    is_named,
    worker_name,
)
from search.worker.stop import depart, stop_on_signals
from search.worker.worker import work

log = logging.getLogger(__name__)

EXAMPLE = "{prog} worker cnn --storage postgresql://user@host/studies"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help="the name of a study in the storage")
    parser.add_argument("--checkpoints", type=place, metavar="PLACE", help=CHECKPOINTS_HELP)
    add_storage(parser)
    app.add_options("worker", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    """Work until the study is over; the exit code says why this worker left, see `Left`."""
    stop = threading.Event()
    protect_output()
    show_records(partial(print, flush=True), level=log_level(args), stamped=not sys.stdout.isatty())
    stop_on_signals(stop)
    try:
        storage = _open(args, stop)
        left = Left.ASKED if storage is None else _work(args, storage, stop)
    except SearchError as error:
        depart(Left.REFUSED, str(error))
        raise
    return depart(left)


def _open(args: argparse.Namespace, stop: threading.Event) -> Storage | None:
    """Open the storage; None when this worker was asked to stop before it could."""
    must_exist(args.storage, args.study)
    said = ""
    while True:
        try:
            return open_storage(args.storage, lock_wait_ms=SHORT_LOCK_WAIT_MS)
        except StorageError as error:
            # Whoever started it had the study before it, so the storage is only away; one that a
            # person starts may have been given a wrong address.
            if isinstance(error, WrongVersion) or not is_named():
                raise
            if str(error) != said:
                said = str(error)
                log.warning("%s; waiting for it", said)
            if stop.wait(1.0):
                return None


def _work(args: argparse.Namespace, storage: Storage, stop: threading.Event) -> Left:
    study = open_study(args.study, storage, checkpoints=args.checkpoints)
    confirming, searched = None, False
    while not searched:
        left = _join(study, stop)
        if left is not Left.OVER or _is_supervised() or SUPERVISED_VARIABLE in os.environ:
            return left
        try:
            confirming, searched = confirming_study(study), True
        except SearchError:
            if study.status().over:
                raise
            # else it was extended meanwhile
    if confirming is None:
        return Left.OVER
    left = _join(confirming, stop)
    if left is Left.OVER:
        annotate(study)
    return left


def _join(study: Study, stop: threading.Event) -> Left:
    name, progress = worker_name(), PlainProgress()

    def show() -> None:
        if not _is_supervised():  # else the supervisor shows how the study goes
            progress.update(study.status())

    show()
    if not _is_supervised():
        so_far = _so_far(study)
        log.info("%s joins study %r, %s; Ctrl-C releases its trial", name, study.name, so_far)
    try:
        over = work(study, name=name, stop=stop, on_trial=show)
    except StorageError as error:
        log.error("%s", error)  # noqa: TRY400 - one line
        return Left.STORAGE
    if not over:
        return Left.ASKED
    if not _is_supervised():
        annotate(study)
        log.info("%s leaves study %r, %s", name, study.name, _so_far(study))
    return Left.OVER


def _is_supervised() -> bool:
    return PARENT_VARIABLE in os.environ


def _so_far(study: Study) -> str:
    counts = study.ledger.counts()
    return f"{counts.done} of {counts.total} trials ended"
