"""`export`: write the bundle of the best trial, or of an ensemble of trials."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.ensemble import Selection
from fmnist_hpo.cli.arguments import add_data_dir, add_readout, is_refit
from fmnist_hpo.cli.texts import readout, say
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.ensemble import export_ensemble
from fmnist_hpo.results.places import bundle_path, ensemble_path
from fmnist_hpo.results.showcase import showcase
from fmnist_hpo.results.winner import export_trial
from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, natural, path, place
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import json_alone, print_json
from search.study import Study

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
    which.add_argument(
        "--ensemble",
        type=natural,
        metavar="K",
        help="K members, chosen on the validation images among the trials whose weights are kept",
    )
    parser.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="default: runs/STUDY/bundle; runs/STUDY/ensemble for an ensemble",
    )
    add_readout(parser)
    parser.add_argument(
        "--retrain", action="store_true", help="train the trial again if its checkpoint is missing"
    )
    parser.add_argument(
        "--checkpoints",
        type=place,
        metavar="PLACE",
        help="where they are (default: where the study says)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    storage = open_stored(args.storage, args.study)
    study = open_named(args.study, storage=storage, checkpoints=args.checkpoints)
    tell = partial(print, file=sys.stderr, flush=True) if args.json else say
    if args.ensemble is not None:
        return _ensemble(args, study, tell)
    out = args.out or bundle_path(study)
    number = args.trial if args.prefer is None else study.preferred(args.prefer).number
    refit = is_refit(args, study.spec)
    with json_alone(args):
        bundle = export_trial(
            study, number, out, refit=refit, flip=args.flip, train=args.retrain, say=tell
        )
        showcase(study, bundle)
    made = bundle.provenance
    if args.json:
        print_json({"study": study.name, "trial": made.trial, **_json(bundle)})
        return 0
    print(f"bundle of trial {made.trial} of study {study.name!r}: {bundle.path}")
    print(f"readout: {readout(bundle)}")
    return 0


def _ensemble(args: argparse.Namespace, study: Study, tell: Callable[[str], None]) -> int:
    if args.retrain:
        raise InputError("an ensemble is made of kept weights, got --retrain; leave it out")
    out = args.out or ensemble_path(study)
    refit = args.refit is True  # only where it is asked for: it trains each member again
    with json_alone(args):
        bundle = export_ensemble(study, args.ensemble, out, refit=refit, flip=args.flip, say=tell)
    made, found = bundle.provenance, Selection.of(bundle.config)
    if args.json:
        members = [{"trial": one.trial, "count": one.count} for one in found.members]
        print_json({"study": study.name, "members": members, **_json(bundle)})
        return 0
    print(f"{made.what} of study {study.name!r}: {bundle.path}")
    print(f"readout: {readout(bundle)}")
    print(
        f"validation: {100 * found.accuracy:.2f} % together, {100 * found.single.accuracy:.2f} % "
        f"trial {found.single.trial} alone; optimistically biased, as the same images chose them"
    )
    return 0


def _json(bundle: Bundle) -> dict[str, Any]:
    readout = bundle.config.readout
    return {
        "refit": bundle.provenance.refit,
        "temperature": readout.temperature,
        "flip": readout.flip,
        "bundle": str(bundle.path),
    }
