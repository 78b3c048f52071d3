"""`export`: write the best trial's bundle."""

import argparse
import sys
from functools import partial
from pathlib import Path

from fmnist_hpo.cli.arguments import add_data_dir, add_readout
from fmnist_hpo.cli.texts import say
from fmnist_hpo.results.showcase import showcase
from fmnist_hpo.results.winner import bundle_path, export_trial
from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, natural
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json

EXAMPLE = "{prog} export quick --refit"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trial", type=natural, metavar="N", help="its number (default: the best)")
    which.add_argument(
        "--prefer",
        metavar="BOUND",
        help='of a study with two metrics: such as "latency_ms<=0.2"; the trial of its front that '
        "keeps this and is best by the other metric",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/STUDY/bundle")
    add_readout(parser)
    parser.add_argument(
        "--retrain", action="store_true", help="train the trial again if its checkpoint is missing"
    )
    parser.add_argument(
        "--checkpoints", metavar="PLACE", help="where they are (default: where the study says)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    storage = open_stored(args.storage, args.study)
    study = open_named(args.study, storage=storage, checkpoints=args.checkpoints)
    out = args.out or bundle_path(study)
    number = args.trial if args.prefer is None else study.preferred(args.prefer).number
    tell = partial(print, file=sys.stderr, flush=True) if args.json else say
    bundle = export_trial(
        study, number, out, refit=args.refit, flip=args.flip, train=args.retrain, say=tell
    )
    showcase(study, bundle)
    made = bundle.provenance
    if args.json:
        path = str(bundle.path)
        print_json({"study": study.name, "trial": made.trial, "refit": made.refit, "bundle": path})
        return 0
    print(f"bundle of trial {made.trial} of study {study.name!r}: {bundle.path}")
    return 0
