"""What a study takes over from earlier ones; it is read once, when the study is created."""

import hashlib
import json
import logging
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count, zip_longest
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.aims.earlier import learns
from search.aims.foreknown import excesses, static_metrics
from search.errors import SearchError, SpecError
from search.ledger.measurements import measurements
from search.outcome import front_of, is_feasible, losses
from search.problem import Problem
from search.spec import StudySpec
from search.spec.prior import Earlier
from search.storage import Storage, is_missing_file, open_storage, shown
from search.study.load_problem import check_params
from search.study.study import Study

__all__ = ["read_prior"]

log = logging.getLogger(__name__)

MOST_SHOWN = 100  # earlier trials that a sampler learns from


@dataclass(frozen=True, kw_only=True)
class _Found:
    """An earlier trial that fits: its point of the new space."""

    study: str
    trial: FrozenTrial
    point: Mapping[str, Any]
    excess: Mapping[str, float] | None  # of each constraint; None where one is not known


def read_prior(spec: StudySpec, storage: Storage | None, problem: Problem) -> dict[str, Any]:
    """What is stored with a new study of its earlier ones, as JSON values.

    Args:
        storage: where the new study will be; None while there is none.

    Returns:
        `first`: a list of {"name", "params"}, the configurations that run first. `trials`: a list
        of {"study", "trial", "params", "values", "constraints"}, those that the sampler learns
        from, in a random order. `studies`: what each study was when it was read. `hash`: of the
        former, SHA-256.

    Raises:
        SearchError: an earlier study is not there, or has other metrics.
    """
    assert spec.prior is not None
    ranked: list[list[_Found]] = []
    sources: list[dict[str, Any]] = []
    for earlier in spec.prior.studies:
        found, source = _read(earlier, spec, storage, problem)
        if any(one["uid"] == source["uid"] for one in sources):
            raise SpecError(
                f"prior: study {earlier.name!r} is named twice in studies; name it once, or its "
                "trials would count twice"
            )
        ranked.append(found)
        sources.append(source)
    # The best of each study in turn: values of different studies are not compared.
    in_turn = [one for rank in zip_longest(*ranked) for one in rank if one is not None]
    first: list[dict[str, Any]] = []
    points: list[Mapping[str, Any]] = []
    for one in in_turn:
        if len(first) < spec.prior.trials and one.point not in points and _may_run(one):
            points.append(one.point)
            taken = {named.name for named in spec.named} | {each["name"] for each in first}
            first.append({"name": _name(one, taken), "params": dict(one.point)})
    shown = [one for one in in_turn if one.excess is not None]
    random.Random(spec.seed).shuffle(shown)
    trials = [
        {
            "study": one.study,
            "trial": one.trial.number,
            "params": dict(one.point),
            "values": one.trial.values,
            "constraints": dict(one.excess or {}),
        }
        for one in shown[:MOST_SHOWN]
    ]
    log.info(
        "of %d earlier trials that fit the space, %d run first and the sampler learns from %d",
        len(in_turn), len(first), len(trials) if learns(spec) else 0,
    )  # fmt: skip
    if not learns(spec):
        log.warning(
            "the sampler %s does not learn from earlier trials; the best of them run first",
            spec.sampler.name,
        )
    content = {"first": first, "trials": trials, "studies": sources}
    return {**content, "hash": _digest(content)}


def _name(one: _Found, taken: Collection[str | None]) -> str:
    """A name that no other trial has, from the study and the number of an earlier trial."""
    name = f"{one.study}-{one.trial.number}"
    names = chain([name, f"prior-{name}"], (f"prior-{name}-{n}" for n in count(2)))
    return next(each for each in names if each not in taken)


def _read(
    earlier: Earlier, spec: StudySpec, storage: Storage | None, problem: Problem
) -> tuple[list[_Found], dict[str, Any]]:
    """The trials of one study that fit, the best first; and what it was."""
    url = earlier.storage
    if url is not None and is_missing_file(url):
        raise SpecError(
            f"prior: there is no file of the storage {shown(url)} of study {earlier.name!r}; "
            "correct the URL, or remove it from prior.studies"
        )
    opened = storage if url is None else open_storage(url)
    if opened is None:
        raise SpecError(
            f"prior: the storage of the new study does not exist yet, so no study {earlier.name!r} "
            "is in it; correct the name or the storage, or remove it from prior.studies"
        )
    try:
        study = Study(opened, earlier.name, checkpoints=None)
        _check_metrics(study.spec, spec)
        complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
        found = list(_fitting(study, _ranked(complete, spec), spec, problem))
        source = {
            "study": earlier.name,
            "storage": opened.url,
            "uid": study.uid,
            "spec": study.spec.hash,
            "read": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "trials": len(complete),
            "measurements": len(measurements(opened, study.uid)),  # sealed ones
            "fitting": len(found),
            "hash": _digest([[t.number, t.params, t.values] for t in complete]),
        }
    except SearchError as error:
        raise SpecError(f"prior: {error}") from error
    finally:
        if opened is not storage:
            opened.close()
    return found, source


def _check_metrics(theirs: StudySpec, ours: StudySpec) -> None:
    if theirs.aims != ours.aims:
        shown = ", ".join(f"{aim.name} to {aim.direction}" for aim in theirs.aims)
        raise SpecError(
            f"study {theirs.name!r} has the metrics {shown}, this one "
            f"{', '.join(f'{aim.name} to {aim.direction}' for aim in ours.aims)}; earlier studies "
            "must have the same"
        )


def _ranked(trials: Sequence[FrozenTrial], spec: StudySpec) -> list[FrozenTrial]:
    """The feasible ones first, by value; with two metrics the front first."""
    if len(spec.aims) > 1:
        front = front_of(trials, spec.directions)
        return [*front, *(trial for trial in trials if trial not in front)]
    return sorted(
        trials,
        key=lambda t: (not is_feasible(t), losses(t.values, spec.directions), t.number),
    )


def _fitting(
    study: Study, trials: Sequence[FrozenTrial], spec: StudySpec, problem: Problem
) -> Iterator[_Found]:
    """Those that are points of the new space, and that the problem accepts."""
    for trial in trials:
        point = _point(study.params(trial), trial.params, spec)
        if point is None:
            continue
        params = {**spec.fixed, **point}
        try:
            check_params(problem, spec.problem, params)
        except SearchError:
            continue
        metrics = {
            **trial.user_attrs.get(attributes.METRICS, {}),
            **static_metrics(problem, spec, params),
        }
        known = {name: value for name, value in metrics.items() if value is not None}
        excess = excesses(spec, known)
        complete = len(excess) == len(spec.constraints)
        yield _Found(
            study=study.name, trial=trial, point=point, excess=excess if complete else None
        )


def _point(
    params: Mapping[str, Any], searched: Mapping[str, Any], spec: StudySpec
) -> dict[str, Any] | None:
    """The point of the new space where an earlier trial was; None where it lies outside.

    What was searched there and is fixed here must have had this value; what was fixed there and is
    not searched here does not count.
    """
    inside = {name: value for name, value in params.items() if spec.space.owner(name) is not None}
    point = spec.space.point_of({**spec.fixed, **inside}, spec.fixed)
    if point is None:
        return None
    others = {name: value for name, value in searched.items() if name not in point}
    return point if others.items() <= dict(spec.fixed).items() else None


def _may_run(one: _Found) -> bool:
    """Whether an earlier trial keeps the constraints, as far as they are known of it."""
    return one.excess is None or all(excess <= 0 for excess in one.excess.values())


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
