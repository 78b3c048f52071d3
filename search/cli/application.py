"""What an application adds to the generic commands."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.problem import Problem
    from search.spec import StudySpec
    from search.study import Study

__all__ = ["Application"]


class Application:
    """What an application adds to the generic commands; each method may be overridden.

    Attributes:
        prog: the command's name, as it stands in examples.
        studies: folder of the study files that ship with it, or None.
    """

    prog = "python -m search"
    studies: Path | None = None

    def add_options(self, command: str, parser: argparse.ArgumentParser) -> None:
        """Add options to a generic command."""

    def study_template(self, values: Mapping[str, str]) -> str | None:  # noqa: ARG002
        """The study file that `new` writes without `--problem`; None for the generic one.

        Args:
            values: "name" of the study, and "prog".
        """
        return None

    def prepare(self, args: argparse.Namespace) -> None:
        """Act on the parsed arguments before the command runs."""

    def check(
        self,
        spec: "StudySpec",
        problem: "Problem",
        study: "Study | None",
        args: argparse.Namespace,
    ) -> None:
        """Refuse a run whose `finish` could not be done, before anything is stored.

        Args:
            study: None for a new one.

        Raises:
            SearchError: what `finish` is to do with these arguments could not be done.
        """

    def describe(self, study: "Study") -> Sequence[tuple[str, str]]:  # noqa: ARG002
        """(label, text) lines about data and device, shown before a run."""
        return ()

    def gpus(self) -> tuple[str, ...]:
        """Indices of the GPUs that workers may use."""
        return ()

    def finish(self, study: "Study", args: argparse.Namespace) -> int:  # noqa: ARG002
        """Called by `run` when all trials have ended; returns the exit code.

        Raises:
            NoResult: no trial is complete.
        """
        from search.cli.tables import print_best_line

        print_best_line(study)
        return 0

    def exported(self, study: "Study") -> tuple[int, Path] | None:  # noqa: ARG002
        """The trial whose model was exported last, and its folder; None without one."""
        return None

    def reproduced(self, study: "Study", trial: "FrozenTrial") -> None:
        """Called by `reproduce` with the trial, after the verdict: say what that does not cover."""
