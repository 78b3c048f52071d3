"""`data`: fetch the data set, or verify it."""

import argparse

from fmnist_hpo import data
from fmnist_hpo.cli.arguments import add_data_dir
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
    directory = data.look() if args.action == "verify" else data.find()
    if directory is None:
        raise InputError(
            "Fashion-MNIST is not on this machine; fetch it with `data fetch`, or name its "
            "directory with --data-dir"
        )
    sums = data.verify(directory)
    for name, digest in sums.items():
        print(f"ok  {digest}  {name}")
    print(f"Fashion-MNIST is complete in {directory}")
    return 0
