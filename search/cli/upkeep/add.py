"""`add`: add one trial with given parameters to a study."""

import argparse
from typing import Any

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import json_alone, print_json
from search.cli.upkeep.remarks import remark_on
from search.errors import SearchError, SpecError
from search.spec.overrides import read_params
from search.supervisor.run import annotate

EXAMPLE = "{prog} add cnn --params learning_rate=3e-3,blocks=2"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument(
        "--params",
        type=_params,
        metavar="NAME=VALUE,...",
        required=True,
        help="of the trial; the others are sampled",
    )
    parser.add_argument("--json", action="store_true", help="the amendment as one JSON object")
    add_storage(parser)
    app.add_options("add", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    try:
        with json_alone(args):
            made = study.add(args.params)
    except SpecError as error:
        raise SearchError(f"--params: {error}") from error
    annotate(study)
    if args.json:
        print_json(made.to_json())
        return 0
    print(f"study {study.name!r} has {made.trials} trials now, the new one next in turn: {made}")
    remark = remark_on(study, app, args.storage)
    if remark is not None:
        print(remark)
    return 0


def _params(text: str) -> dict[str, Any]:
    try:
        return read_params(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
