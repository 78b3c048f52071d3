"""`trials`: list a study's trials."""

import argparse
import sys

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json, trial_records
from search.cli.tables import print_trials, write_csv
from search.errors import SearchError
from search.study.views.cv_results import write_cv_results

EXAMPLE = "{prog} trials quick --csv"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="comma-separated values, every column")
    output.add_argument("--json", action="store_true", help="a JSON list of trials")
    parser.add_argument(
        "--format",
        choices=("trials", "cv_results"),
        default="trials",
        help="of --csv: cv_results for scikit-learn's columns of a cross-validated study",
    )
    add_storage(parser)
    app.add_options("trials", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    if args.format != "trials" and not args.csv:
        raise SearchError(f"--format {args.format} is a form of --csv; add --csv")
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    if args.format == "cv_results":
        write_cv_results(study, sys.stdout)
    elif args.json:
        print_json(trial_records(study))
    elif args.csv:
        write_csv(study, sys.stdout)
    else:
        print_trials(study)
    return 0
