"""`best`: show the best trial."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import best_record, print_json
from search.cli.tables import print_best

EXAMPLE = "{prog} best quick --json"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    app.add_options("best", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    if args.json:
        print_json(best_record(study))
    else:
        print_best(study)
    return 0
