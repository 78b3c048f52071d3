"""`extend`: add trials, hours or steps to the budget of a study."""

import argparse
import math

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json
from search.cli.upkeep.remarks import remark_on
from search.errors import SearchError
from search.supervisor.run import annotate

EXAMPLE = "{prog} extend cnn --trials +20 --hours +0.5"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("--trials", type=_more_trials, metavar="+N", default=0, help="so many more")
    parser.add_argument("--hours", type=_more_hours, metavar="+H", default=0.0, help="so many more")
    parser.add_argument("--steps", type=_more_trials, metavar="+N", default=0, help="so many more")
    parser.add_argument("--json", action="store_true", help="the amendment as one JSON object")
    add_storage(parser)
    app.add_options("extend", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    if not (args.trials or args.hours or args.steps):
        raise SearchError(
            "extend adds trials, hours or steps, got none of them; give --trials +N, --hours +H or "
            "--steps +N"
        )
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    made = study.extend(trials=args.trials, hours=args.hours, steps=args.steps)
    annotate(study)
    if args.json:
        print_json(made.to_json())
        return 0
    print(f"study {study.name!r} was extended: {made}")
    remark = remark_on(study, app, args.storage)
    if remark is not None:
        print(remark)
    return 0


def _more_trials(text: str) -> int:
    number = _number(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number with a plus, got {text!r}")
    return int(number)


def _more_hours(text: str) -> float:
    return _number(text)


def _number(text: str) -> float:
    """A number above 0; the plus says that it is added and not the new total."""
    try:
        number = float(text) if text.startswith("+") else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(
            f"is what is added, not the new total: need a plus and a number above 0, such as +20, "
            f"got {text!r}"
        )
    return number
