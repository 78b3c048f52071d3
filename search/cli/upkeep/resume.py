"""`resume`: let a paused study go on."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.hints import storage_option
from search.cli.json_output import print_json, status_record

EXAMPLE = "{prog} resume cnn"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--json", action="store_true", help="the status as one JSON object")
    add_storage(parser)
    app.add_options("resume", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    resumed = study.resume()
    if args.json:
        print_json(status_record(study.status()))
        return 0
    run = f"`{app.prog} run {study.name}{storage_option(args.storage)}`"
    if study.status().halted is not None:
        was = "is no longer paused" if resumed else "is not paused"
        print(f"study {study.name!r} {was}, but halted; {run} repeats the trials that failed")
    elif not resumed:
        print(f"study {study.name!r} is not paused; {run} starts workers")
    else:
        print(
            f"study {study.name!r} goes on with the workers that wait for it; {run} starts workers"
        )
    return 0
