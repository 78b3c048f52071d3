"""The models of a study's trials: from their checkpoints, or from training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.results.places import image_problem
from search import attributes
from search.aims.refit import refit_params
from search.study import Study
from search.study.confirmation.repeats import problem_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle.export import Model
    from fmnist_hpo.data import Split

__all__ = [
    "forget_trainings",
    "keeps_model",
    "kept_model",
    "problem_of_trial",
    "refitted_model",
    "trained_model",
]

Say = Callable[[str], None]

#: Where the checkpoints of trainings for a bundle lie, beside those of the trials.
RETRAINED, REFITTED = "retrained", "refit"


def keeps_model(problem: ImageProblem) -> bool:
    """Whether the weights of a study's best trials are kept."""
    return problem.folds is None and problem.keeps_model


def problem_of_trial(study: Study, trial: "FrozenTrial") -> ImageProblem:
    """The problem that ran a trial: the study's, or of a repeat that with another split.

    Raises:
        InputError: another program made the trial; or see `image_problem`.
    """
    problem = image_problem(study)
    if attributes.LINEAGE not in trial.user_attrs:
        raise InputError(
            f"trial {trial.number} of study {study.name!r} was made by another program, which left "
            "no seed and no weights; choose another with --trial"
        )
    own = problem_of(problem, study.specs.of(trial), _lineage(trial))
    assert isinstance(own, ImageProblem)
    return own


def kept_model(study: Study, problem: ImageProblem, trial: "FrozenTrial") -> "Model | None":
    """A complete trial's own model, exactly as its last step validated it; None if it is not kept.

    Nothing is trained: the weights are those of the checkpoint. A checkpoint of an earlier step,
    as a full disk leaves it, does not count. Cross-validated trials and classical models keep none.
    """
    if not keeps_model(problem):
        return None
    checkpoint = study.checkpoints.load(_lineage(trial), params=study.params(trial))
    if checkpoint is None or not problem.is_whole(checkpoint, _curves(trial)):
        return None
    return problem.model(
        study.params(trial),
        problem.splits[0],
        seed=study.spec.trial_seed(_lineage(trial)),
        curves=_curves(trial),
        checkpoint=checkpoint,
        save=lambda _: None,
        say=lambda _: None,
    )


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
    params = study.params(trial)
    return _train(study, problem, trial, RETRAINED, params, problem.splits[0], say), False


def refitted_model(
    study: Study, problem: ImageProblem, trial: "FrozenTrial", *, say: Say
) -> "Model":
    """The configuration of a trial, trained on all images; goes on where it was interrupted.

    Parameters of the study's `[refit]` stand in place of the trial's.

    Raises:
        ProblemError: they do not go with the trial's others.
        InputError: see `ImageProblem.model`.
    """
    params = refit_params(
        problem,
        study.spec,
        study.params(trial),
        proposed=study.specs.of(trial),
        whose=f"trial {trial.number}",
    )
    said = "".join(f", {name}={value}" for name, value in study.spec.refit.items())
    say(f"training trial {trial.number} on all {len(problem.everything.train):,} images{said}")
    return _train(study, problem, trial, REFITTED, params, problem.everything, say)


def forget_trainings(study: Study, trial: "FrozenTrial") -> None:
    """Delete the checkpoints of trainings for a trial's bundle, which is written now."""
    for kind in (RETRAINED, REFITTED):
        study.checkpoints.scoped(kind).delete(_lineage(trial))


def _train(
    study: Study,
    problem: ImageProblem,
    trial: "FrozenTrial",
    kind: str,
    params: Mapping[str, Any],
    split: "Split",
    say: Say,
) -> "Model":
    """Train the configuration of a trial, from where an earlier call was interrupted.

    Its checkpoints lie apart from those of the trial, whose weights may differ.
    """
    lineage, checkpoints = _lineage(trial), study.checkpoints.scoped(kind)
    return problem.model(
        params,
        split,
        seed=study.spec.trial_seed(lineage),
        curves=_curves(trial),
        checkpoint=checkpoints.load(lineage, params=params) if problem.keeps_model else None,
        save=partial(checkpoints.save, lineage, attempt=1, params=params),
        say=say,
    )


def _curves(trial: "FrozenTrial") -> Mapping[str, Sequence[float | None]]:
    curves: Mapping[str, Sequence[float | None]] = trial.user_attrs[attributes.CURVES]
    return curves


def _lineage(trial: "FrozenTrial") -> int:
    return int(trial.user_attrs[attributes.LINEAGE])
