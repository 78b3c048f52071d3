"""`stop`: end a running or paused trial for good."""

import argparse

from search.cli.application import Application
from search.cli.arguments import CHECKPOINTS_HELP, STORED_HELP, add_storage, natural, place
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json
from search.supervisor.run import annotate

EXAMPLE = "{prog} stop cnn --trial 17"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--trial", type=natural, metavar="N", required=True, help="its number")
    parser.add_argument("--checkpoints", type=place, metavar="PLACE", help=CHECKPOINTS_HELP)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    app.add_options("stop", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    storage = open_stored(args.storage, args.study)
    study = open_named(args.study, storage=storage, checkpoints=args.checkpoints)
    stopped = study.stop(args.trial)
    annotate(study)
    if args.json:
        print_json({"trial": args.trial, "lineage": stopped.lineage, "worker": stopped.worker})
        return 0
    print(f"trial {args.trial} of study {study.name!r} was stopped and counts as pruned")
    if stopped.worker is not None:
        seconds = study.spec.workers.heartbeat_seconds
        print(f"{stopped.worker} has it and, if it lives, lets it go within {seconds:g} s")
    return 0
