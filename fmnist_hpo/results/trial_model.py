"""The models of a study's trials: from their checkpoints, or from training."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from search import attributes
from search.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle.export import Model

__all__ = ["forget_refit", "kept_model", "refitted_model", "trained_model"]

Say = Callable[[str], None]


def keeps_model(problem: ImageProblem) -> bool:
    """Whether the weights of a study's best trials are kept."""
    return problem.folds is None and problem.keeps_model


def kept_model(study: Study, problem: ImageProblem, trial: "FrozenTrial") -> "Model | None":
    """A complete trial's own model, exactly as its last step validated it; None if it is not kept.

    Nothing is trained: the weights are those of the checkpoint. Cross-validated trials and
    classical models keep none.
    """
    if not keeps_model(problem):
        return None
    checkpoint = study.checkpoints.load(_lineage(trial), params=study.params(trial))
    if checkpoint is None:
        return None
    return _model(study, problem, trial, refit=False, checkpoint=checkpoint, say=lambda _: None)


def trained_model(
    study: Study, problem: ImageProblem, trial: "FrozenTrial", *, train: bool, say: Say
) -> "tuple[Model, bool]":
    """A trial's own model, and whether its weights are those that the trial left.

    Args:
        train: train a network again if its checkpoint is not kept.

    Raises:
        InputError: the checkpoint is missing and `train` is false.
    """
    kept = kept_model(study, problem, trial)
    if kept is not None:
        return kept, True
    if problem.keeps_model and not train:
        raise InputError(
            f"need the checkpoint of trial {trial.number}, found none in "
            f"{study.checkpoints.address}; name the place with --checkpoints if it moved, or train "
            "the trial again with --retrain (only the best trials' checkpoints are kept)"
        )
    say(f"training trial {trial.number} on its {len(problem.splits[0].train):,} images")
    return _model(study, problem, trial, refit=False, checkpoint=None, say=say), False


def refitted_model(
    study: Study, problem: ImageProblem, trial: "FrozenTrial", *, say: Say
) -> "Model":
    """The configuration of a trial, trained on all images; goes on where it was interrupted."""
    say(f"training trial {trial.number} on all {len(problem.everything.train):,} images")
    checkpoint = None
    if problem.keeps_model:
        params = study.params(trial)
        checkpoint = study.checkpoints.scoped("refit").load(_lineage(trial), params=params)
    return _model(study, problem, trial, refit=True, checkpoint=checkpoint, say=say)


def forget_refit(study: Study, trial: "FrozenTrial") -> None:
    """Delete the checkpoint of a refit that is written to a bundle."""
    study.checkpoints.scoped("refit").delete(_lineage(trial))


def _model(
    study: Study,
    problem: ImageProblem,
    trial: "FrozenTrial",
    *,
    refit: bool,
    checkpoint: bytes | None,
    say: Say,
) -> "Model":
    lineage, params = _lineage(trial), study.params(trial)
    checkpoints = study.checkpoints.scoped("refit") if refit else study.checkpoints
    return problem.model(
        params,
        problem.everything if refit else problem.splits[0],
        seed=study.spec.trial_seed(lineage),
        curves=trial.user_attrs[attributes.CURVES],
        checkpoint=checkpoint,
        save=partial(checkpoints.save, lineage, attempt=1, params=params),
        say=say,
    )


def _lineage(trial: "FrozenTrial") -> int:
    return int(trial.user_attrs[attributes.LINEAGE])
