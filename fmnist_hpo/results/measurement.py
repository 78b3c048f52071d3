"""The sealed measurements of a study: made, recorded in its storage, and written into bundles."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.fields import LONGEST
from fmnist_hpo.bundle.kinds import model_hash
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.places import bundle_path, ensemble_path, find_bundle, image_problem
from search import attributes
from search.ledger import measurements as evaluations
from search.study import Study
from search.text import counted, shorten, times

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
    trial: int | None  # whose model; None: that of an ensemble
    count: int  # of the study's measurements, whatever was measured
    remark: str = ""  # what could be known of the test set beforehand, see `_remark`


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
    if test.evaluations > measured.count:  # the storage was restored, or is a copy
        return bundle
    if (test.evaluations, test.remark) == (measured.count, measured.remark):
        return bundle
    try:
        return evaluation.recount(bundle, measured.count, remark=measured.remark)
    except InputError as error:  # as on a read-only disk
        log.warning("%s says less than is recorded: %s", bundle.path, error)
        return bundle


def measure(study: Study, bundle: Bundle, *, again: bool) -> Measured:
    """Measure the test set, record that in the study's storage, and only then write it down.

    The study's other bundles then say how many measurements there were. A measurement that a bundle
    could not be given, as its disk was full, is given to it and returned.

    Raises:
        Sealed: it was measured before, and `again` was not asked for.
        InputError: the test files are missing or altered; or the bundle knows of measurements that
            the storage does not, and `again` was not asked for.
    """
    from fmnist_hpo.bundle import evaluation

    if bundle.provenance.study_uid != study.uid:
        raise InputError(
            f"bundle {bundle.path} is not of the study {study.name!r} in {study.storage.url}; "
            "name its own storage with --storage, or export the study's trial again"
        )
    others = list(_others(study, bundle))
    said = max(map(_said, (bundle, *others)))
    if not again:
        unwritten = bundle.metrics.test is None
        bundle = attach_recorded(study, bundle)
        known = recorded(study, bundle) if unwritten else None
        if known is not None:  # the disk was full when it was to be written
            return known
        _refuse_if_said(study, said)
    evaluations.refuse_unless_first(study.storage, study.uid, study.name, again=again)
    measured = evaluation.evaluate(bundle, image_problem(study).directory)
    payload = {
        "trial": bundle.provenance.trial,
        "members": dict(bundle.provenance.members),
        "refit": bundle.provenance.refit,
        "model": model_hash(bundle),
        "bundle": str(bundle.path.resolve()),
        "finished": len(study.status().finished),
        "elsewhere": max(0, said - len(_found(study))),
        "evaluation": measured.to_json(),
    }
    number = evaluations.record(study.storage, study.uid, study.name, payload, again=again)
    found = _found(study)[:number]
    count, remark = _count(found), _remark(study, found)
    try:
        evaluation.attach(bundle, measured, count, remark=remark)
    except InputError as error:  # the measurement counts all the same
        log.warning(
            "the measurement is recorded in the study, and not yet in its bundle: %s; the same "
            "command writes it there",
            error,
        )
    for other in others:
        try:
            attach_recorded(study, other)
        except InputError as error:
            log.warning("%s does not count this measurement: %s", other.path, error)
    return Measured(
        evaluation=measured, trial=_trial(found[-1].payload), count=count, remark=remark
    )


def _found(study: Study) -> list[evaluations.SealedMeasurement]:
    return evaluations.measurements(study.storage, study.uid)


def _count(found: Sequence[evaluations.SealedMeasurement]) -> int:
    """How many measurements these are, with those that a restored storage does not know."""
    return len(found) + max((one.payload.get("elsewhere", 0) for one in found), default=0)


def _trial(payload: Mapping[str, Any]) -> int | None:
    return None if payload.get("members") else int(payload["trial"])


def _said(bundle: Bundle) -> int:
    """How often the study's test set was measured, as the bundle says."""
    return 0 if bundle.metrics.test is None else bundle.metrics.test.evaluations


def _refuse_if_said(study: Study, said: int) -> None:
    known = measurements(study)
    if said > known:
        raise InputError(
            f"the test set of study {study.name!r} was measured {times(said)}, as its bundles say, "
            f"and {study.storage.url} knows of {known}: it was restored, or is a copy; name the "
            "storage that has them with --storage, or ask for a further measurement with --again"
        )


def _others(study: Study, bundle: Bundle) -> Iterator[Bundle]:
    """The study's other bundles: where `run` and `export` write them, and where one was measured.

    One that is damaged is passed over with a warning.
    """
    places = {bundle_path(study).resolve(), ensemble_path(study).resolve()}
    places |= {Path(one.payload["bundle"]) for one in _found(study) if "bundle" in one.payload}
    for place in sorted(places - {bundle.path.resolve()}):
        try:
            if (other := find_bundle(study, place)) is not None:
                yield other
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


def measurements(study: Study, bundle: Bundle | None = None) -> int:
    """How often the study's test set was measured, as its storage or a bundle of it knows."""
    return max(_count(_found(study)), 0 if bundle is None else _said(bundle))


def recorded(study: Study, bundle: Bundle | None) -> Measured | None:
    """The last measurement of a bundle's model in the study's storage; None when there is none.

    A measurement belongs to the bytes of the model: the same trial refitted on another machine has
    other weights, and none of its measurements.

    Args:
        bundle: None for the best trial's, refitted or not; with two metrics for any of the front.
    """
    from fmnist_hpo.bundle.evaluation import Evaluation

    found = _found(study)
    for one in reversed(found):
        stored = Evaluation.from_json(one.payload["evaluation"])
        trial = _trial(one.payload)
        if bundle is None:
            same = trial in {best.number for best in study.pareto}
        elif "model" in one.payload:
            same = one.payload["model"] == model_hash(bundle)
        else:  # recorded without the hash: it is of the bundle that holds it
            test = bundle.metrics.test
            same = test is not None and test.metrics == stored.metrics
        if same:
            remark = _remark(study, found[: one.n])
            return Measured(evaluation=stored, trial=trial, count=_count(found), remark=remark)
    return None


def _remark(study: Study, found: Sequence[evaluations.SealedMeasurement]) -> str:
    """What could be known of the test set before the last of these; "" where nothing could.

    It was measured, and then the study went on or was amended; or an earlier study, from which
    `[prior]` took trials over, had been measured.
    """
    study.refresh()
    first, last = found[0], found[-1]
    on = f"on {first.at:%Y-%m-%d %H:%M} UTC"
    sentences = [
        f"It took trials over from study {one['study']!r}, whose test set had been measured "
        f"{times(one['measurements'])}."
        for one in study.ledger.attrs.get(attributes.PRIOR, {}).get("studies", ())
        if one.get("measurements")
    ]
    since = [str(one) for one in study.amendments if first.at < one.at < last.at]
    # Records of before have no such count.
    more = last.payload.get("finished", 0) - first.payload.get("finished", math.inf)
    if since:
        sentences.append(
            f"The study was amended after its test set had been measured, {on}: {'; '.join(since)}."
        )
    elif more > 0:
        sentences.append(
            f"The study went on after its test set had been measured, {on}: "
            f"{counted(int(more), 'trial')} ended since."
        )
    return shorten(" ".join(sentences), LONGEST)
