"""`compare`: put the winners of studies in one table."""

import argparse
from dataclasses import replace
from pathlib import Path

from fmnist_hpo.cli import commands
from fmnist_hpo.cli.arguments import add_data_dir
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.comparison import compare
from fmnist_hpo.results.comparison_table import lines, write_csv
from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage, path
from search.cli.find_study import open_named, open_stored
from search.cli.hints import complete
from search.cli.json_output import json_alone

EXAMPLE = "{prog} compare ann cnn --csv comparison.csv"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("studies", nargs="+", metavar="STUDY", help=STORED_HELP)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", type=path, metavar="FILE", help="also write the table there")
    output.add_argument("--json", action="store_true", help="one JSON object instead")
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:
    if args.csv is not None and not _is_folder(args.csv.parent):  # before a minute of measuring
        raise InputError(
            f"cannot write {args.csv}: {args.csv.parent} is no folder; make it or name another"
        )
    names = list(dict.fromkeys(args.studies))
    storage = open_stored(args.storage, names[0])
    with json_alone(args):
        comparison = compare([open_named(name, storage=storage) for name in names])
    missing = [
        complete(line, app.prog, commands.COMMANDS, args.storage) for line in comparison.missing
    ]
    comparison = replace(comparison, missing=tuple(missing))
    if args.json:
        print(comparison.to_json())
        return 0
    if args.csv is not None:
        write_csv(comparison, args.csv)
    for line in lines(comparison):
        print(line)
    return 0


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, or within a folder that nobody may enter
        return False
