"""Arguments that several commands take."""

import argparse
from typing import TYPE_CHECKING

from search.cli.arguments import place

if TYPE_CHECKING:
    from search.spec import StudySpec

__all__ = ["BUNDLE_HELP", "add_data_dir", "add_readout", "is_refit"]

BUNDLE_HELP = "a folder that run or export wrote"


def add_readout(parser: argparse.ArgumentParser) -> None:
    """Add `--refit` and `--flip`, which say what model of a trial is exported."""
    parser.add_argument(
        "--refit",
        action=argparse.BooleanOptionalAction,
        help="retrain the best configuration on training and validation images together "
        "(default: where the study has [refit])",
    )
    parser.add_argument(
        "--flip",
        nargs="?",
        choices=("no", "auto", "yes"),
        default="no",
        const="yes",
        help="average each picture's logits with its mirror image's, at twice the latency; auto: "
        "if more validation images are right so (default: no)",
    )


def is_refit(args: argparse.Namespace, spec: "StudySpec") -> bool:
    """Whether the best trial is to be refitted: as the user said, or as the study does."""
    return bool(spec.refit) if args.refit is None else args.refit


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        type=place,
        metavar="DIR",
        help="folder of Fashion-MNIST (default: $FMNIST_HPO_DATA, the system's copy, the cache, "
        "or else it is fetched)",
    )
