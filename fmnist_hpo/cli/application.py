"""What images and networks add to the generic verbs: options, what a run shows first, how it ends.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_hpo.errors import InputError
from search.cli import app as cli
from search.cli.application import Application, say_best

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.metrics import Metrics
    from search.study import Study

__all__ = ["APPLICATION", "PROG", "REFIT_HELP", "add_data_dir", "prepare", "say", "with_interval"]

PROG = "fmnist-hpo"
REFIT_HELP = "train the best configuration anew on training and validation images together"


def _add_options(verb: str, parser: argparse.ArgumentParser) -> None:
    if verb in ("run", "create", "plan", "worker", "reproduce"):
        add_data_dir(parser)
    if verb == "run":
        parser.add_argument("--refit", action="store_true", help=REFIT_HELP)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where Fashion-MNIST lies (default: $FMNIST_HPO_DATA, the system's copy, the cache, "
        "else it is fetched)",
    )


def prepare(args: argparse.Namespace) -> None:
    """Let this process and its workers look where the user said that Fashion-MNIST lies."""
    if getattr(args, "data_dir", None):
        os.environ["FMNIST_HPO_DATA"] = args.data_dir


def _describe(study: "Study") -> list[tuple[str, str]]:
    from fmnist_hpo.bundle import check_replaceable
    from fmnist_hpo.environment import processor
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.results.winner import bundle_path, measurements, unmeasurable

    lines = [("processor", processor())]
    problem = study.problem
    if isinstance(problem, ImageProblem):
        check_replaceable(bundle_path(study), study.name, study.uid)  # before a long search
        name = "Fashion-MNIST" if problem.known else "idx files"
        sums = problem.fingerprint()
        files = ", ".join(
            f"{file.split('-idx')[0]} {sums[file][:12]}" for file in problem.data.hashes
        )
        lines.insert(0, ("data", f"{name} in {problem.directory} ({files})"))
        lines.insert(1, ("split", f"{problem.describe_split()} ({problem.split_hash[:12]})"))
        why = unmeasurable(study)
        if why is not None and not measurements(study):
            lines.insert(1, ("test", f"{why}; without it the run ends with the export"))
    return lines


def _gpus() -> tuple[str, ...]:
    from fmnist_hpo.environment import gpus

    return gpus()


def _finish(study: "Study", args: argparse.Namespace) -> int:
    """Export the best trial, measure it once, and say what came out; done before, only say it.

    A study of something else than models of images has nothing to export: its best is named.
    """
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.results import winner
    from fmnist_hpo.results.showcase import showcase

    if not isinstance(study.problem, ImageProblem):
        return say_best(study)
    best, path = study.best, winner.bundle_path(study)
    bundle, sealed = winner.find_bundle(study), winner.measurements(study) == 0
    if bundle is None or (sealed and not _is_wanted(bundle, best.number, refit=args.refit)):
        print(f"exporting trial {best.number} to {path}", flush=True)
        bundle = winner.export_trial(study, best.number, path, refit=args.refit, say=say)
    elif args.refit and not bundle.provenance["refit"]:
        print(f"{path} is not refitted: `{PROG} export {study.name} --refit` replaces it")
    bundle = winner.attach_recorded(study, bundle)
    if sealed and winner.unmeasurable(study) is None:
        print("measuring the test set, once", flush=True)
        winner.measure(study, bundle, again=False)
        bundle = Bundle.open(path)  # with the measurement in it
    showcase(study, bundle)
    _summary(study, bundle, args.storage)
    return 0


def _is_wanted(bundle: "Bundle", best: int, *, refit: bool) -> bool:
    """Whether a bundle that was exported before is the one to spend the one measurement on."""
    provenance = bundle.provenance
    return provenance["trial"] == best and (provenance["refit"] or not refit)


def _summary(study: "Study", bundle: "Bundle", storage: str) -> None:
    from fmnist_hpo.results.winner import measurements, recorded, unmeasurable
    from search.text import show_trial

    best, measured = study.best, recorded(study, bundle)
    number, count = bundle.provenance["trial"], measurements(study)
    times = "once" if count == 1 else f"{count} times"
    print(f"\nbest trial  {best.number}: {show_trial(best, study.params(best))}")
    print(f"validation  {_validation(study, bundle)}")
    if not count:
        print(f"test        not measured: {unmeasurable(study)}")
    elif measured is None:
        print(f"test        not measured of this bundle; another of the study was, {times}")
    else:
        how = f"measured {times}; trained on {bundle.provenance['trained_on']:,} images"
        print(f"test        {with_interval(measured.evaluation.metrics)} ({how})")
    of = "" if number == best.number else f" (of trial {number})"
    print(f"bundle      {bundle.path}{of}")
    # not the address itself, which may hold a password
    where = "" if storage == cli.default_storage() else " --storage ..."
    print(f"next        {PROG} reproduce {study.name}{where}")
    print(f"            {PROG} predict {bundle.path} IMAGE.png")
    print(f"            {PROG} dashboard{where}")
    print(f"            {PROG} report {study.name}{where}")


def _validation(study: "Study", bundle: "Bundle") -> str:
    text = f"{100 * (study.best.value or 0.0):.2f} % accuracy"
    folds = bundle.metrics["folds"].get("fold_train_score")
    if not folds:
        return text
    train = sum(folds) / len(folds)
    return f"{text}, training {100 * train:.2f} % (means over {len(folds)} folds)"


def _reproduced(study: "Study", trial: "FrozenTrial") -> None:
    """Say where the exported model is a refit of the trial, which the verdict does not cover."""
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.results.winner import find_bundle
    from search.cli.tables import print_differences
    from search.supervisor.run import differences

    if not isinstance(study.problem, ImageProblem):
        return
    try:
        bundle = find_bundle(study)
    except InputError:  # damaged, as whoever uses it is told
        return
    if bundle is None:
        return
    made = bundle.provenance
    if made["trial"] != trial.number or not made["refit"]:
        return
    differs = {
        key: both
        for key, both in differences(made["environment"], study.problem.environment()).items()
        if key != "threads"  # those of the trial, for the verdict
    }
    print(
        f"not covered: {bundle.path} holds this configuration trained anew on all "
        f"{made['trained_on']:,} images{', in another environment' if differs else ''}; "
        f"`{PROG} export {study.name} --refit` does that again"
    )
    print_differences(differs)


def say(line: str) -> None:
    """Print a line at once: training takes minutes, also where the output is a pipe."""
    print(line, flush=True)


def with_interval(metrics: "Metrics") -> str:
    """An accuracy in percent with its interval."""
    low, high = metrics.accuracy_interval
    return (
        f"{100 * metrics.accuracy:.2f} % accuracy, 95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}"
    )


def _studies() -> Path:
    """The study files: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "studies"
    return installed if installed.exists() else package.parent / "studies"


APPLICATION = Application(
    prog=PROG,
    studies=_studies(),
    prepare=prepare,
    describe=_describe,
    gpus=_gpus,
    finish=_finish,
    reproduced=_reproduced,
    add_options=_add_options,
)
