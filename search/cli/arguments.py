"""Arguments that several commands take."""

import argparse
import logging
import os
from pathlib import Path

from search import DEFAULT_STORAGE
from search.errors import StorageError
from search.worker.contract import STORAGE_VARIABLE

__all__ = [
    "CHECKPOINTS_HELP",
    "SHIPPED_HELP",
    "STORED_HELP",
    "WORKERS_HELP",
    "add_storage",
    "default_storage",
    "log_level",
    "natural",
    "path",
    "place",
    "place_here",
    "positive",
]

MOST_NUMBER = 2**31 - 1  # of a trial: a database holds no larger one
WORKERS_HELP = "processes (default: as many as the cores allow)"
SHIPPED_HELP = "a study file, or the name of one that ships"
STORED_HELP = "the name of a study in the storage, or its study file"
CHECKPOINTS_HELP = (
    "a directory or s3://bucket/prefix (default: where the study says; of a new one "
    "runs/STUDY/checkpoints)"
)


def default_storage() -> str:
    """The storage that a command uses when none is named."""
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add `--storage`."""
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=default_storage(),
        help=f"sqlite:///FILE, postgresql://..., or embedded (default: ${STORAGE_VARIABLE}, "
        f"or {DEFAULT_STORAGE})",
    )


def log_level(args: argparse.Namespace) -> int:
    """The lowest level of log records that a command shows."""
    return logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO


def path(text: str) -> Path:
    """A file or folder, as a type of an argument; an empty text would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got ''; name a file or folder")
    return Path(text)


def place(text: str) -> str:
    """A place of checkpoints, as a type of an argument; an empty text would be the default."""
    if not text:
        raise argparse.ArgumentTypeError("must be a place, got ''; name one, or leave it out")
    return text


def place_here(text: str) -> str:
    """A place of checkpoints that this machine can use, as a type of an argument."""
    from search.storage.files import check_place

    try:
        check_place(place(text))
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def natural(text: str) -> int:
    """A whole number >= 0, as a type of an argument."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number >= 1, as a type of an argument."""
    return _whole(text, 1)


def _whole(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if low <= number <= MOST_NUMBER:
        return number
    bound = f" and <= {MOST_NUMBER:,}" if number > MOST_NUMBER else ""
    raise argparse.ArgumentTypeError(f"must be a whole number >= {low}{bound}, got {text!r}")
