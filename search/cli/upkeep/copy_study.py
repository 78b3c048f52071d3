"""`copy-study`: copy a study with its ledger to another storage."""

import argparse

from search import DEFAULT_STORAGE
from search.cli.application import Application
from search.cli.arguments import default_storage
from search.cli.find_study import open_stored
from search.cli.hints import storage_option, storage_remark
from search.storage import open_storage
from search.study.copy_study import StudyCopy
from search.worker.contract import STORAGE_VARIABLE

EXAMPLE = (
    "{prog} copy-study cnn --from sqlite:///runs/studies.db --to postgresql://user@host/studies"
)


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="the name of a study in the storage it is copied from"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="URL",
        default=default_storage(),
        help=f"the storage that holds it (default: ${STORAGE_VARIABLE}, or {DEFAULT_STORAGE})",
    )
    parser.add_argument(
        "--to", dest="target", metavar="URL", required=True, help="a storage without such a study"
    )
    app.add_options("copy-study", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    source = open_stored(args.source, args.study)
    copied = StudyCopy.read(args.study, source)  # before a file of the target is made
    copied.write(open_storage(args.target))
    command = f"status {args.study}" if copied.has_file else "dashboard"
    print(
        f"study {args.study!r} was copied; see it with: "
        f"{app.prog} {command}{storage_option(args.target)}"
    )
    if (remark := storage_remark(args.target)) is not None:
        print(remark)
    return 0
