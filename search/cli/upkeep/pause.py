"""`pause`: let a study rest; its workers release their trials and wait."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.hints import storage_option
from search.cli.json_output import print_json, status_record

EXAMPLE = "{prog} pause cnn"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--json", action="store_true", help="the status as one JSON object")
    add_storage(parser)
    app.add_options("pause", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    paused = study.pause()
    if args.json:
        print_json(status_record(study.status()))
        return 0
    resume = f"`{app.prog} resume {study.name}{storage_option(args.storage)}` lets it go on"
    if not paused:
        print(f"study {study.name!r} was paused before; {resume}")
        return 0
    seconds = study.spec.workers.heartbeat_seconds
    running = study.status().at_work
    workers = f"workers release their trials within {seconds:g} s and wait; " if running else ""
    print(f"study {study.name!r} is paused; {workers}{resume}")
    return 0
