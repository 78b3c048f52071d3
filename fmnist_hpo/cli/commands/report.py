"""`report`: write a self-contained page on studies."""

import argparse

from fmnist_hpo.cli.arguments import add_data_dir
from fmnist_hpo.report.write import report_path, write_report
from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, path
from search.cli.find_study import open_named, open_stored

EXAMPLE = "{prog} report ann cnn --out report"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("studies", nargs="+", metavar="STUDY", help=STORED_HELP)
    parser.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="default: runs/STUDY/report; runs/report for several studies",
    )
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    names = list(dict.fromkeys(args.studies))
    storage = open_stored(args.storage, names[0])
    studies = [open_named(name, storage=storage) for name in names]
    path = write_report(studies, args.out or report_path(studies))
    print(f"report: {path}")
    return 0
