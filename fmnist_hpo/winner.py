"""From a finished study to its bundle and its one test figure."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_hpo import config
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.errors import InputError
from fmnist_hpo.problem import FashionProblem
from search import evaluations
from search.study import Study
from search.worker import trial_seed

if TYPE_CHECKING:
    from fmnist_hpo.evaluation import Evaluation

__all__ = ["Measured", "bundle_path", "export_trial", "measure", "recorded"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measurement of the test set, and how many the study has had."""

    evaluation: "Evaluation"
    count: int


def bundle_path(study: Study) -> Path:
    """Where a study's bundle lies unless told otherwise."""
    return Path("runs") / study.name / "bundle"


def export_trial(
    study: Study,
    number: int | None,
    directory: Path,
    *,
    refit: bool,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Write a trial's bundle from its last checkpoint, or from training it (again).

    Args:
        number: of the trial; None for the best.
        refit: train the configuration anew on training and validation images together.

    Raises:
        SearchError, InputError: no such trial, other data, a full disk.
    """
    from fmnist_hpo import export, training

    trial = study.trial(number)
    problem = _problem(study)
    if trial.value is None or trial.state.name != "COMPLETE":
        raise InputError(
            f"trial {trial.number} of study {study.name!r} is not complete but "
            f"{trial.state.name.lower()}; choose one that is, see `trials {study.name}`"
        )
    params = study.params(trial)
    network_config, training_config = config.parse(params)
    lineage = trial.user_attrs["lineage"]
    seed = trial_seed(study.spec.seed, lineage)
    split = problem.split
    checkpoint = None if refit else study.checkpoints.load(lineage)
    if checkpoint is None:
        if refit:
            split = problem.everything
            say(f"training trial {trial.number} anew on all {len(split.train):,} images")
        else:
            say(f"the weights of trial {trial.number} are no longer kept; training it again")
        result = training.train(network_config, training_config, problem.data, split, seed=seed)
        weights, history = result.weights, result.history
    else:
        weights, history = training.weights(checkpoint), training.history(checkpoint)
    return export.export(
        directory,
        network_config=network_config,
        training_config=training_config,
        weights=weights,
        data=problem.data,
        split=split,
        history=history,
        provenance=export.Provenance(
            study=study.name,
            trial=trial.number,
            params=params,
            seed=seed,
            value=trial.value,
            spec_hash=study.spec.hash,
            git_commit=_git_commit(),
            environment=(
                problem.environment() if checkpoint is None else trial.user_attrs["environment"]
            ),
            refit=refit,
        ),
    )


def measure(study: Study, bundle: Bundle, *, again: bool) -> Measured:
    """Measure the test set, record that in the study's storage, and only then write it down.

    Raises:
        Sealed: it was measured before, and `again` was not asked for.
        InputError: the test files are missing or altered.
    """
    from fmnist_hpo import evaluation

    if bundle.provenance["study"] != study.name:
        raise InputError(
            f"bundle {bundle.path} is of study {bundle.provenance['study']!r}, got study "
            f"{study.name!r}; name its own study"
        )
    evaluations.refuse_unless_first(study.storage, study.uid, study.name, again=again)
    measured = evaluation.evaluate(bundle, _problem(study).directory)
    payload = {
        "trial": bundle.provenance["trial"],
        "refit": bundle.provenance["refit"],
        "evaluation": measured.to_json(),
    }
    count = evaluations.record(study.storage, study.uid, study.name, payload, again=again)
    evaluation.attach(bundle, measured, count)
    return Measured(evaluation=measured, count=count)


def recorded(study: Study) -> Measured | None:
    """The last measurement in the study's storage; None when the test set is still sealed."""
    from fmnist_hpo.evaluation import Evaluation

    found = evaluations.measurements(study.storage, study.uid)
    if not found:
        return None
    last = found[-1]
    return Measured(evaluation=Evaluation.from_json(last.payload["evaluation"]), count=len(found))


def _problem(study: Study) -> FashionProblem:
    problem = study.problem
    if isinstance(problem, FashionProblem):
        return problem
    raise InputError(
        f"only networks on images can be exported and measured, and study {study.name!r} runs "
        f"{study.spec.problem!r}"
    )


def _git_commit() -> str | None:
    """The commit of this package's checkout; None for an installed wheel."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None
