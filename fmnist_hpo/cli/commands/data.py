"""`data`: fetch the data set, or verify it."""

import argparse
import os
from pathlib import Path

from fmnist_hpo import data
from fmnist_hpo.cli.arguments import add_data_dir
from fmnist_hpo.data.download import download
from fmnist_hpo.errors import InputError
from search.cli.application import Application

EXAMPLE = "{prog} data verify"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument(
        "action",
        choices=("fetch", "verify"),
        help="fetch uses the network only if the data set is not on this machine",
    )
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    directory = data.look() if args.action == "verify" else _fetch()
    if directory is None:
        raise InputError(
            "Fashion-MNIST is not on this machine; `data fetch` fetches it, and --data-dir names "
            "the folder of another copy"
        )
    sums = data.verify(directory)
    for name, digest in sums.items():
        print(f"ok  {digest}  {name}")
    print(f"Fashion-MNIST is complete in {directory}")
    return 0


def _fetch() -> Path:
    """The folder of the data set; a named one that is missing or empty is filled."""
    named = os.environ.get("FMNIST_HPO_DATA")
    if named:
        folder = data.expanded(named)
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return download(folder)
    return data.find()
