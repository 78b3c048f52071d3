"""`logs`: show what the workers wrote about a trial."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, natural
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json
from search.cli.worker_logs import attempts_of, follow, log_record, print_logs

EXAMPLE = "{prog} logs quick --trial 3 --follow"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--trial", type=natural, metavar="N", required=True, help="its number")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--follow", action="store_true", help="go on until the trial has ended")
    output.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    app.add_options("logs", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    if args.follow:
        follow(study, args.trial)
    elif args.json:
        print_json(log_record(study, args.trial, attempts_of(study, args.trial)))
    else:
        print_logs(study, attempts_of(study, args.trial))
    return 0
