"""Chooses an ensemble of a study's trials on the validation images, and writes its bundle."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle import Bundle, check_replaceable
from fmnist_hpo.bundle.ensemble import MOST_MEMBERS, Member, Selection
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.metrics import measure
from fmnist_hpo.results.measurement import attach_recorded
from fmnist_hpo.results.places import image_problem
from fmnist_hpo.results.trial_model import (
    forget_trainings,
    kept_model,
    problem_of_trial,
    refitted_model,
)
from fmnist_hpo.results.winner import provenance_of
from search import attributes
from search.outcome import is_feasible, value_of
from search.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle.calibration import Flip
    from fmnist_hpo.bundle.export import Model

__all__ = ["export_ensemble", "select"]

LEAST = 2  # members, and trials to choose from
LOOKED_AT = 50  # trials whose checkpoint is looked for; a worker keeps those of the five best


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """A trial whose weights are kept, with what they say of the validation images."""

    trial: "FrozenTrial"
    model: "Model"
    temperature: float
    logits: NDArray[np.float64]  # (n, classes), divided by the temperature
    accuracy: float


def select(
    outputs: Sequence[NDArray[np.floating]], labels: NDArray[np.integer], size: int
) -> list[int]:
    """Choose models greedily, with replacement, whose mean logits are right most often.

    Each round adds the model with which the mean of all chosen so far has the most images right;
    of equals that with the lower cross-entropy, then the first.

    Args:
        outputs: of each model, (n, classes); at least one.
        labels: (n,), indices of classes.
        size: rounds, >= 1.

    Returns:
        The index of the model that each round added.

    Source: Caruana et al. 2004, "Ensemble Selection from Libraries of Models", sections 2 and 2.1.
    """
    chosen: list[int] = []
    total = np.zeros_like(outputs[0], dtype=np.float64)
    classes = tuple(map(str, range(total.shape[1])))
    for n in range(1, size + 1):
        found = [measure((total + one) / n, labels, classes) for one in outputs]
        best = min(range(len(found)), key=lambda i: (-found[i].correct, found[i].loss, i))
        chosen.append(best)
        total += outputs[best]
    return chosen


def export_ensemble(
    study: Study,
    size: int,
    directory: Path,
    *,
    refit: bool,
    flip: "Flip" = "no",
    say: Callable[[str], None] = print,
) -> Bundle:
    """Write the bundle of an ensemble that is chosen on the validation images.

    The candidates are the complete trials whose checkpoints are kept. Their validation logits are
    computed from those weights, once for each, so nothing is trained and no logits are stored.

    Args:
        size: members, counted as often as they are chosen; >= 2.
        refit: train each member again, on all training images, after the choice.
        flip: as in `export_trial`; decided for the ensemble as a whole, after the choice.
        say: is given a line now and then.

    Raises:
        InputError: fewer than two trials have kept weights, or see `export_trial`.
    """
    from fmnist_hpo.bundle.calibration import choose_readout
    from fmnist_hpo.bundle.export import draft, export
    from fmnist_hpo.networks.bundles.ensemble import build_model

    if not LEAST <= size <= MOST_MEMBERS:
        raise InputError(
            f"need an ensemble of {LEAST} to {MOST_MEMBERS:,} members, got {size:,}; try 3"
        )
    check_replaceable(directory, study.name, study.uid)
    problem = image_problem(study)
    candidates = _candidates(study, problem, directory)
    (split,) = problem.splits
    images, labels = (
        problem.data.images[split.validation],
        problem.data.labels[split.validation],
    )
    say(f"choosing {size} of {len(candidates)} trials on {len(labels):,} validation images")
    rounds = select([one.logits for one in candidates], labels, size)
    counts = Counter(rounds)  # in the order in which they were first chosen
    members = {candidates[index].trial.number: candidates[index] for index in counts}
    mean = np.mean([candidates[index].logits for index in rounds], axis=0)
    single = candidates[rounds[0]]
    selection = Selection(
        members=tuple(
            Member(
                trial=candidates[index].trial.number,
                count=count,
                accuracy=candidates[index].accuracy,
            )
            for index, count in counts.items()
        ),
        candidates=len(candidates),
        images=len(labels),
        single=Member(trial=single.trial.number, count=1, accuracy=single.accuracy),
        accuracy=float((mean.argmax(axis=1) == labels).mean()),
    )
    temperatures = {number: one.temperature for number, one in members.items()}
    models = {number: one.model for number, one in members.items()}
    model, readout = build_model(models, temperatures, selection), None
    if refit:
        readout, _, _ = choose_readout(
            draft(directory, model), images, labels, flip=flip, before_refit=True
        )
        models = {
            number: refitted_model(study, problem, one.trial, say=say)
            for number, one in members.items()
        }
        model, split = build_model(models, temperatures, selection), problem.everything
    bundle = export(
        directory,
        model,
        data=problem.data,
        split=split,
        flip=flip,
        readout=readout,
        provenance=replace(
            provenance_of(
                study,
                problem,
                single.trial,
                environment=problem.environment()
                if refit
                else single.trial.user_attrs[attributes.ENVIRONMENT],
                refit=refit,
            ),
            value=selection.accuracy,
            params={},
            members={str(member.trial): member.count for member in selection.members},
        ),
    )
    if refit:
        for one in members.values():
            forget_trainings(study, one.trial)
    return attach_recorded(study, bundle)


def _candidates(study: Study, problem: ImageProblem, directory: Path) -> list[_Candidate]:
    """The complete trials whose weights are kept, the best first.

    Trials on another split are left out: their weights have seen some of the validation images.
    """
    from fmnist_hpo.bundle.calibration import choose_readout
    from fmnist_hpo.bundle.export import check_accuracy, draft

    complete = [
        one
        for one in study.trials
        if one.state.name == "COMPLETE"
        and is_feasible(one)
        and attributes.LINEAGE in one.user_attrs  # else another program's
        and problem_of_trial(study, one) is problem
    ]
    complete.sort(key=lambda one: (-(value_of(one) or 0.0), one.number))
    found = []
    for trial in complete[:LOOKED_AT]:
        model = kept_model(study, problem, trial)
        if model is None:
            continue
        part = problem.splits[0].validation
        images, labels = problem.data.images[part], problem.data.labels[part]
        readout, outputs, accuracy = choose_readout(
            draft(directory, model), images, labels, flip="no"
        )
        check_accuracy(accuracy, trial.number, value_of(trial) or 0.0, len(labels))
        found.append(
            _Candidate(
                trial=trial,
                model=model,
                temperature=readout.temperature,
                logits=outputs.astype(np.float64) / readout.temperature,
                accuracy=accuracy,
            )
        )
    if len(found) < LEAST:
        raise InputError(
            f"need at least {LEAST} complete trials with kept weights for an ensemble, found "
            f"{len(found)} in {study.checkpoints.address}; only networks with a held-out part keep "
            "those of the best trials; name the place with --checkpoints if it moved"
        )
    return found
