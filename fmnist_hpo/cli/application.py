"""What images and models of them add to the generic commands.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from fmnist_hpo.cli.arguments import add_data_dir, add_readout, is_refit
from search.cli.application import Application

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.problem import Problem
    from search.spec import StudySpec
    from search.study import Study

__all__ = ["FashionApplication"]


class FashionApplication(Application):
    """`fmnist-hpo`: data and processor before a run, a measured bundle after it."""

    prog = "fmnist-hpo"

    def __init__(self) -> None:
        package = Path(__file__).parents[1]
        installed = package / "studies"  # in a checkout they lie beside the package
        self.studies = installed if installed.exists() else package.parent / "studies"

    def add_options(self, command: str, parser: argparse.ArgumentParser) -> None:
        if command in ("run", "create", "plan", "worker", "reproduce"):
            add_data_dir(parser)
        if command == "run":
            add_readout(parser)

    def study_template(self, values: Mapping[str, str]) -> str:
        text = (Path(__file__).parent / "study_template.toml").read_text(encoding="utf-8")
        return Template(text).substitute(values)

    def prepare(self, args: argparse.Namespace) -> None:
        """Let this process and its workers find the data where the user said."""
        if getattr(args, "data_dir", None):
            os.environ["FMNIST_HPO_DATA"] = args.data_dir

    def check(
        self,
        spec: "StudySpec",
        problem: "Problem",
        study: "Study | None",
        args: argparse.Namespace,
    ) -> None:
        from fmnist_hpo.cli.run_texts import check

        check(spec, problem, study, refit=is_refit(args, spec), flip=args.flip)

    def describe(self, study: "Study") -> Sequence[tuple[str, str]]:
        from fmnist_hpo.cli.run_texts import describe

        return describe(study)

    def gpus(self) -> tuple[str, ...]:
        from fmnist_hpo.environment import gpus

        return gpus()

    def finish(self, study: "Study", args: argparse.Namespace) -> int:
        from fmnist_hpo.cli.run_texts import finish

        refit = is_refit(args, study.spec)
        return finish(study, refit=refit, flip=args.flip, storage=args.storage, prog=self.prog)

    def exported(self, study: "Study") -> tuple[int, Path] | None:
        from fmnist_hpo.results.places import find_bundle

        bundle = find_bundle(study)
        return None if bundle is None else (bundle.provenance.trial, bundle.path)

    def reproduced(self, study: "Study", trial: "FrozenTrial") -> None:
        from fmnist_hpo.cli.run_texts import reproduced

        reproduced(study, trial, self.prog)
