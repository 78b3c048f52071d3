"""`fmnist-hpo`: the command line of the application."""

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    from fmnist_hpo.cli.app import main as run

    return run(argv)
