"""From a trial of a study to its bundle."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_hpo.bundle import Bundle, Provenance, check_replaceable
from fmnist_hpo.bundle.fields import LONGEST
from fmnist_hpo.bundle.records import Readout
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.results.measurement import attach_recorded
from fmnist_hpo.results.trial_model import (
    forget_trainings,
    keeps_model,
    problem_of_trial,
    refitted_model,
    trained_model,
)
from search import attributes
from search.aims.confirmed import sentences
from search.outcome import value_of
from search.study import Study
from search.text import shorten

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle.calibration import Flip

__all__ = ["confirmed_lines", "export_trial", "provenance_of", "undecided"]


def export_trial(
    study: Study,
    number: int | None,
    directory: Path,
    *,
    refit: bool,
    flip: "Flip" = "no",
    train: bool = False,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Write a trial's bundle from its last checkpoint, or from training.

    A network's training is saved after each epoch and continues there if it is interrupted. A
    measurement of this very model is written into the bundle. A classical model has no checkpoint
    and is always fitted.

    Args:
        number: of the trial; None for the best.
        refit: train the configuration again, on all training images together. A cross-validated
            trial is always refitted: none of its folds' models is the trial's.
        flip: whether the logits are averaged over an image and its mirror image; "auto" decides
            that on the validation part. For a refit the trial's own weights decide it, and the
            temperature.
        train: train the trial again if its checkpoint is not kept.
        say: is given a line now and then while it trains.

    Raises:
        SearchError, InputError: no such trial, its checkpoint is missing and `train` is false,
            other data, a full disk, nothing to decide `flip` on, or `directory` holds something
            else.
    """
    from fmnist_hpo.bundle import export

    check_replaceable(directory, study.name, study.uid)  # before it trains
    trial = study.trial(number)
    problem = problem_of_trial(study, trial)
    if value_of(trial) is None or trial.state.name != "COMPLETE":
        raise InputError(
            f"trial {trial.number} of study {study.name!r} is not complete but "
            f"{trial.state.name.lower()}; choose one that is, see `trials {study.name}`"
        )
    refit = refit or problem.folds is not None
    readout = None
    if refit:
        readout = _readout_before_refit(
            study, problem, trial, directory, flip=flip, train=train, say=say
        )
        model, kept = refitted_model(study, problem, trial, say=say), False
    else:
        model, kept = trained_model(study, problem, trial, train=train, say=say)
    bundle = export.export(
        directory,
        model,
        data=problem.data,
        split=problem.everything if refit else problem.splits[0],
        fold_curves=_fold_curves(trial) if problem.folds is not None else None,
        flip=flip,
        readout=readout,
        provenance=provenance_of(
            study,
            problem,
            trial,
            environment=trial.user_attrs[attributes.ENVIRONMENT] if kept else problem.environment(),
            refit=refit,
        ),
    )
    forget_trainings(study, trial)
    return attach_recorded(study, bundle)


def _readout_before_refit(
    study: Study,
    problem: ImageProblem,
    trial: "FrozenTrial",
    directory: Path,
    *,
    flip: "Flip",
    train: bool,
    say: Callable[[str], None],
) -> Readout:
    """Decide the readout of a refit with the trial's own weights, where a problem keeps them."""
    from fmnist_hpo.bundle.calibration import choose_readout
    from fmnist_hpo.bundle.export import draft

    if not keeps_model(problem):
        if flip == "auto":
            raise undecided()
        return Readout(flip=flip == "yes")
    model, _ = trained_model(study, problem, trial, train=train, say=say)
    (split,) = problem.splits
    images, labels = problem.data.images, problem.data.labels
    readout, _, _ = choose_readout(
        draft(directory, model),
        images[split.validation],
        labels[split.validation],
        flip=flip,
        before_refit=True,
    )
    return readout


def undecided() -> InputError:
    """That nothing is there to decide on the mirror image with."""
    return InputError(
        "need the trial's own weights to decide on the mirror image before a refit, found none "
        "(only networks with a held-out part keep them); use --flip yes, or leave it out"
    )


def provenance_of(
    study: Study,
    problem: ImageProblem,
    trial: "FrozenTrial",
    *,
    environment: Mapping[str, str],
    refit: bool,
) -> Provenance:
    """Where a model of a complete trial comes from.

    Args:
        environment: in which its weights were trained.
    """
    split = problem.everything if refit else problem.splits[0]
    return Provenance(
        study=study.name,
        study_uid=study.uid,
        trial=trial.number,
        params=study.params(trial),
        seed=study.spec.trial_seed(trial.user_attrs[attributes.LINEAGE]),
        value=value_of(trial) or 0.0,
        spec_hash=study.spec.hash,
        git_commit=_git_commit(),
        environment=environment,
        refit=refit,
        overrides=study.spec.refit if refit else {},
        folds=problem.folds,
        tuned_on=len(problem.tuned_on),
        trained_on=len(split.train),
        amendments=tuple(shorten(str(one), LONGEST) for one in study.amendments),
        confirmation=shorten(" ".join(confirmed_lines(study)), LONGEST) or None,
    )


def confirmed_lines(study: Study) -> list[str]:
    """What came of training the best trials of a study again, in sentences; none before its end."""
    found = study.confirmation
    if found is None or not found.over:
        return []
    return sentences(found, percent=True)


def _fold_curves(trial: "FrozenTrial") -> dict[str, list[float]]:
    """The curves of a cross-validated trial, without their steps."""
    return {
        name: values
        for name, values in trial.user_attrs[attributes.CURVES].items()
        if name != "step"
    }


def _git_commit() -> str | None:
    """The commit of this package's checkout; None where it is installed, also within another's."""
    here = Path(__file__).resolve()

    def git(*args: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", str(here.parent), *args], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        tracked = git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") if tracked else None
    except OSError:
        return None
