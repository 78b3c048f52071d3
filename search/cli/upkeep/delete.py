"""`delete`: delete a study with its trials, checkpoints and artifacts."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from search.cli.application import Application
from search.cli.arguments import add_storage
from search.cli.find_study import open_stored
from search.errors import SearchError
from search.study.delete import Deletion
from search.text import counted

EXAMPLE = "{prog} delete cnn-short"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help="the name of a study in the storage")
    parser.add_argument("--yes", action="store_true", help="do not ask for the name again")
    add_storage(parser)
    app.add_options("delete", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    name = args.study
    storage = open_stored(args.storage, name)
    deletion = Deletion(storage, name)
    if not args.yes:
        confirming = ", ".join(deletion.confirming)
        also = f", and what confirms it ({confirming})" if confirming else ""
        what = f"{counted(deletion.trials, 'trial')}{_record(deletion.measurements)}"
        _confirm(name, f"{storage.url}, {what}{also}")
    for deleted in deletion.carry_out():
        print(
            f"study {deleted.name!r} was deleted: {counted(deleted.trials, 'trial')}, "
            f"{counted(deleted.checkpoints, 'checkpoint')}, "
            f"{counted(deleted.artifacts, 'artifact')}{_record(deleted.measurements)}"
        )
        folder = Path("runs") / deleted.name
        kept = sorted(path.name for path in folder.glob("*") if path.name != "checkpoints")
        if kept:
            print(f"{folder} keeps {', '.join(kept)}")
    return 0


def _record(measurements: int) -> str:
    record = f", the record of {counted(measurements, 'measurement')} of its test set"
    return record if measurements else ""


def _confirm(name: str, what: str) -> None:
    if not sys.stdin.isatty():
        raise SearchError(
            f"deleting study {name!r} cannot be undone and needs a confirmation, got no terminal "
            "to ask on; add --yes"
        )
    typed = ""
    with suppress(EOFError):
        typed = input(f"study {name!r} in {what}: type its name to delete it for good: ")
    if typed.strip() != name:
        raise SearchError(f"the name was not {name!r}, got {typed.strip()!r}; nothing was deleted")
