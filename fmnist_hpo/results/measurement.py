"""The sealed measurements of a study: made, recorded in its storage, and written into bundles."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.fields import LONGEST
from fmnist_hpo.bundle.kinds import model_hash
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.places import bundle_path, ensemble_path, find_bundle, image_problem
from search.ledger import measurements as evaluations
from search.study import Study
from search.text import shorten

if TYPE_CHECKING:
    from fmnist_hpo.bundle.evaluation import Evaluation

__all__ = [
    "Measured",
    "attach_recorded",
    "measure",
    "measurements",
    "recorded",
    "unmeasurable",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measurement of the test set, and how many the study has had."""

    evaluation: "Evaluation"
    count: int  # of the study's measurements, whatever was measured
    remark: str = ""  # that the study was extended after its first measurement, before this one


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
    try:
        return evaluation.recount(bundle, measured.count, remark=measured.remark)
    except InputError as error:  # as on a read-only disk
        log.warning("%s says less than is recorded: %s", bundle.path, error)
        return bundle


def measure(study: Study, bundle: Bundle, *, again: bool) -> Measured:
    """Measure the test set, record that in the study's storage, and only then write it down.

    The study's other bundle, where there is one, then says how many measurements there were. A
    measurement that a bundle could not be given, as its disk was full, is given to it and returned.

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
    if not again and bundle.metrics.test is None:
        known = recorded(study, bundle)
        if known is not None:  # the disk was full when it was to be written
            evaluation.attach(bundle, known.evaluation, known.count, remark=known.remark)
            return known
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
    try:
        evaluation.attach(bundle, measured, count, remark=remark)
    except InputError as error:  # the measurement counts all the same
        log.warning(
            "the measurement is recorded in the study, and not yet in its bundle: %s; the same "
            "command writes it there",
            error,
        )
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
        except (InputError, OSError) as error:
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
