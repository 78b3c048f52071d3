"""Arguments that several commands take."""

import argparse

__all__ = ["BUNDLE_HELP", "REFIT_HELP", "add_data_dir"]

REFIT_HELP = "retrain the best configuration on training and validation images together"
BUNDLE_HELP = "a folder that run or export wrote"


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of Fashion-MNIST (default: $FMNIST_HPO_DATA, the system's copy, the cache, "
        "or else it is fetched)",
    )
