"""`status`: show how a study stands, or list all studies."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.engines import engine_line, engine_record
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import confirmed_record, print_json, status_record
from search.cli.tables import print_confirmation, print_status, print_studies, watch_status
from search.errors import SearchError
from search.storage import Storage
from search.study import open_study, study_names

EXAMPLE = "{prog} status quick --watch"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument(
        "study",
        metavar="STUDY",
        nargs="?",
        help=f"{STORED_HELP}; without one, every study of the storage in a line",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--watch", action="store_true", help="redraw until the study has ended")
    output.add_argument("--json", action="store_true", help="one JSON object, or a list of all")
    add_storage(parser)
    app.add_options("status", parser)


def _nothing_to_list(storage: Storage) -> str:
    """Why there is nothing to list, and what to do."""
    others = [study.study_name for study in storage.optuna.get_all_studies()]
    if not others:
        return f"there is no study in {storage.url} yet; `run --help` shows how to start one"
    return (
        f"status lists studies that have a study file, and {storage.url} holds only "
        f"{', '.join(map(repr, sorted(others)))}, made by StudySearchCV or by another program; "
        "browse it with `dashboard`, or name another storage"
    )


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    if args.study is None and args.watch:
        raise SearchError("--watch follows one study, got none; name it")
    storage = open_stored(args.storage, args.study)
    if args.study is None:
        names = study_names(storage)
        if not names:
            raise SearchError(_nothing_to_list(storage))
        statuses = [open_study(name, storage).status() for name in names]
        if args.json:
            print_json([status_record(status) for status in statuses])
        else:
            print_studies(statuses)
        return 0
    study = open_named(args.study, storage=storage)
    if args.watch:
        watch_status(study)
        print_confirmation(study, study.status())
    elif args.json:
        status = study.status()
        record = status_record(status)
        record |= {"engine": engine_record(study, status), "confirmation": confirmed_record(study)}
        print_json(record)
    else:
        status = study.status()
        print_status(status)
        print_confirmation(study, status)
        line = engine_line(study, status)
        if line is not None:
            print(line)
    return 0
