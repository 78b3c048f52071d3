"""`fmnist-hpo`: the generic commands, and those on images, models and bundles.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence

from fmnist_hpo.cli import commands
from fmnist_hpo.cli.application import FashionApplication
from fmnist_hpo.errors import InputError
from search.cli.app import GENERIC, run_command

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    return run_command(
        FashionApplication(),
        "Hyperparameter search on Fashion-MNIST that finishes exactly what you asked.",
        {**GENERIC, commands.__name__: commands.COMMANDS},
        argv,
        errors=(InputError,),
    )


if __name__ == "__main__":
    sys.exit(main())
