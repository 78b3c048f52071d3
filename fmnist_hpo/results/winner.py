"""From a finished study to its bundle and its one test figure."""

import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_hpo.bundle import Bundle, Provenance, check_replaceable
from fmnist_hpo.bundle.fields import LONGEST
from fmnist_hpo.bundle.kinds import model_hash
from fmnist_hpo.bundle.records import Readout
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.results.trial_model import (
    forget_refit,
    kept_model,
    refitted_model,
    trained_model,
)
from search import attributes
from search.aims.confirmed import sentences
from search.errors import ProblemError
from search.ledger import measurements as evaluations
from search.outcome import value_of
from search.study import Study, load_problem
from search.text import shorten

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle.calibration import Flip
    from fmnist_hpo.bundle.evaluation import Evaluation

__all__ = [
    "Measured",
    "attach_recorded",
    "bundle_path",
    "can_export",
    "confirmed_lines",
    "ensemble_path",
    "export_trial",
    "find_bundle",
    "image_problem",
    "measure",
    "measurements",
    "provenance_of",
    "recorded",
    "undecided",
    "unmeasurable",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measurement of the test set, and how many the study has had."""

    evaluation: "Evaluation"
    count: int  # of the study's measurements, whatever was measured
    remark: str = ""  # that the study was extended after its first measurement, before this one


def can_export(study: Study) -> bool:
    """Whether the study's problem makes models of images, which can be exported and measured.

    A problem that cannot be loaded here cannot be exported here either. No data are read.
    """
    try:
        return isinstance(load_problem(study.spec), ImageProblem)
    except ProblemError:
        return False


def bundle_path(study: Study) -> Path:
    """Where a study's bundle lies unless told otherwise."""
    return Path("runs") / study.name / "bundle"


def ensemble_path(study: Study) -> Path:
    """Where a study's ensemble lies unless told otherwise."""
    return Path("runs") / study.name / "ensemble"


def find_bundle(study: Study, path: Path | None = None) -> Bundle | None:
    """The bundle at a place; None when there is none of this very study.

    Args:
        path: None for where `run` and `export` write it.

    Raises:
        InputError: it is damaged.
    """
    path = path or bundle_path(study)
    if not path.exists():
        return None
    bundle = Bundle.open(path)
    return bundle if bundle.provenance.study_uid == study.uid else None


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
            that on the validation part, for a refit with the trial's own weights.
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
    problem = image_problem(study)
    if value_of(trial) is None or trial.state.name != "COMPLETE":
        raise InputError(
            f"trial {trial.number} of study {study.name!r} is not complete but "
            f"{trial.state.name.lower()}; choose one that is, see `trials {study.name}`"
        )
    refit = refit or problem.folds is not None
    readout = None
    if refit:
        readout = _readout_before_refit(study, problem, trial, directory, flip)
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
    if refit:
        forget_refit(study, trial)
    return attach_recorded(study, bundle)


def _readout_before_refit(
    study: Study, problem: ImageProblem, trial: "FrozenTrial", directory: Path, flip: "Flip"
) -> Readout:
    """Decide the readout of a refit with the trial's own weights, where they are kept."""
    from fmnist_hpo.bundle.calibration import choose_readout
    from fmnist_hpo.bundle.export import draft

    model = kept_model(study, problem, trial)
    if model is None:
        if flip == "auto":
            raise undecided()
        return Readout(flip=flip == "yes")
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


def attach_recorded(study: Study, bundle: Bundle) -> Bundle:
    """Give a bundle what is recorded of its model, where it does not say just that.

    So it is after an export, after a later measurement of the study, and where the disk was full
    when the measurement was to be written.

    Raises:
        InputError: the disk is full or not writable; the bundle is as it was then.
    """
    from fmnist_hpo.bundle import evaluation

    measured, test = recorded(study, bundle), bundle.metrics.test
    if measured is None:
        return bundle
    if test is None:
        found = measured.evaluation
        return evaluation.attach(bundle, found, measured.count, remark=measured.remark)
    if (test.evaluations, test.remark) == (measured.count, measured.remark):
        return bundle
    return evaluation.recount(bundle, measured.count, remark=measured.remark)


def _fold_curves(trial: "FrozenTrial") -> dict[str, list[float]]:
    """The curves of a cross-validated trial, without their steps."""
    return {
        name: values
        for name, values in trial.user_attrs[attributes.CURVES].items()
        if name != "step"
    }


def measure(study: Study, bundle: Bundle, *, again: bool) -> Measured:
    """Measure the test set, record that in the study's storage, and only then write it down.

    The study's other bundle, where there is one, then says how many measurements there were.

    Raises:
        Sealed: it was measured before, and `again` was not asked for.
        InputError: the test files are missing or altered.
    """
    from fmnist_hpo.bundle import evaluation

    if bundle.provenance.study_uid != study.uid:
        raise InputError(
            f"bundle {bundle.path} is not of the study {study.name!r} in {study.storage.url}; "
            "name its own storage with --storage, or export the study's trial again"
        )
    evaluations.refuse_unless_first(study.storage, study.uid, study.name, again=again)
    measured = evaluation.evaluate(bundle, image_problem(study).directory)
    payload = {
        "trial": bundle.provenance.trial,
        "members": dict(bundle.provenance.members),
        "refit": bundle.provenance.refit,
        "model": model_hash(bundle),
        "evaluation": measured.to_json(),
    }
    count = evaluations.record(study.storage, study.uid, study.name, payload, again=again)
    found = evaluations.measurements(study.storage, study.uid)
    remark = _remark(study, found[:count])
    evaluation.attach(bundle, measured, count, remark=remark)
    _recount_others(study, bundle)
    return Measured(evaluation=measured, count=count, remark=remark)


def _recount_others(study: Study, measured: Bundle) -> None:
    """Let the study's other bundles say how many measurements there were; log what cannot."""
    for place in (bundle_path(study), ensemble_path(study)):
        if place.resolve() == measured.path.resolve():
            continue
        try:
            if (other := find_bundle(study, place)) is not None:
                attach_recorded(study, other)
        except InputError as error:
            log.warning("%s does not count this measurement: %s", place, error)


def unmeasurable(study: Study) -> str | None:
    """Why the test set cannot be measured, and what to do; None when its files are there.

    None of them is opened.
    """
    from fmnist_hpo.bundle.evaluation import missing_file

    directory = image_problem(study).directory
    missing = missing_file(directory)
    if missing is None:
        return None
    return (
        f"{directory} has no {missing} to measure on; add the file and run the same command again"
    )


def measurements(study: Study) -> int:
    """How often the study's test set was measured."""
    return len(evaluations.measurements(study.storage, study.uid))


def recorded(study: Study, bundle: Bundle | None) -> Measured | None:
    """The last measurement of a bundle's model in the study's storage; None when there is none.

    A measurement belongs to the bytes of the model: the same trial refitted on another machine has
    other weights, and none of its measurements.

    Args:
        bundle: None for the best trial's, refitted or not; with two metrics for any of the front.
    """
    from fmnist_hpo.bundle.evaluation import Evaluation

    found = evaluations.measurements(study.storage, study.uid)
    for one in reversed(found):
        stored = Evaluation.from_json(one.payload["evaluation"])
        if bundle is None:
            single = not one.payload.get("members")
            same = single and one.payload["trial"] in {trial.number for trial in study.pareto}
        elif "model" in one.payload:
            same = one.payload["model"] == model_hash(bundle)
        else:  # recorded without the hash: it is of the bundle that holds it
            test = bundle.metrics.test
            same = test is not None and test.metrics == stored.metrics
        if same:
            remark = _remark(study, found[: one.n])
            return Measured(evaluation=stored, count=len(found), remark=remark)
    return None


def _remark(study: Study, found: Sequence[evaluations.SealedMeasurement]) -> str:
    """What to say of the last of these, where the study was amended since the first."""
    study.refresh()
    first, last = found[0].at, found[-1].at
    since = [str(one) for one in study.amendments if first < one.at < last]
    if not since:
        return ""
    text = (
        f"The study was amended after its test set had been measured, on {first:%Y-%m-%d %H:%M} "
        f"UTC: {'; '.join(since)}."
    )
    return shorten(text, LONGEST)


def image_problem(study: Study) -> ImageProblem:
    """A study's problem.

    Raises:
        InputError: its models are not of images; or it confirms another study: each of its trials
            has a split of its own, and the models are those of the other.
    """
    if attributes.CONFIRMS in study.ledger.attrs:
        raise InputError(
            f"study {study.name!r} holds the repeats that confirm another study, which has the "
            "models; export that one"
        )
    problem = study.problem
    if isinstance(problem, ImageProblem):
        return problem
    raise InputError(
        f"only models of images can be exported and measured, and study {study.name!r} runs "
        f"{study.spec.problem!r}"
    )


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
