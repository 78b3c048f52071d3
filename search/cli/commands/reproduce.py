"""`reproduce`: train a trial again and compare it with the stored one."""

import argparse

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, natural
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import json_alone, print_json, replay_record
from search.cli.tables import EpochPrinter, print_verdict
from search.worker.reproduce import reproduce

EXAMPLE = "{prog} reproduce quick --trial 3"
DIFFERENT = 3  # exit code


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--trial", type=natural, metavar="N", help="its number (default: the best)")
    parser.add_argument("--json", action="store_true", help="one JSON object, at the end")
    add_storage(parser)
    app.add_options("reproduce", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    trial = study.trial(args.trial)
    if args.json:
        with json_alone(args):
            replay = reproduce(study, trial.number)
        print_json(replay_record(study, replay))
        return 0 if replay.identical else DIFFERENT
    print(f"trial {trial.number} of {study.name!r}: stored figures, then the new ones", flush=True)
    replay = reproduce(study, trial.number, EpochPrinter())
    print_verdict(replay)
    app.reproduced(study, replay.trial)
    return 0 if replay.identical else DIFFERENT
