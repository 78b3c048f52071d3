"""`diff`: show two trials side by side."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, natural
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json
from search.cli.pair_text import pair_record, print_pair
from search.study.views.trial_pair import pair_of

EXAMPLE = "{prog} diff quick 3 17"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("first", metavar="A", type=natural, help="the number of a trial")
    parser.add_argument("second", metavar="B", type=natural, help="the number of another one")
    parser.add_argument("--json", action="store_true", help="one JSON object, with all steps")
    add_storage(parser)
    app.add_options("diff", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    pair = pair_of(study, args.first, args.second)
    if args.json:
        print_json(pair_record(study.name, pair))
    else:
        print_pair(pair)
    return 0
