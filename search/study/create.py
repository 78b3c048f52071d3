"""Creates a study, once its problem has accepted what the study file allows."""

from pathlib import Path

import optuna
from optuna.study import StudyDirection

from search import attributes
from search.errors import ProblemError, SearchError, SpecError, StudyChanged
from search.ledger import Ledger
from search.problem import Problem
from search.sampling.make import make_pruner, make_sampler
from search.spec import StudySpec
from search.spec.strategies import AUTO
from search.storage import Storage
from search.storage.checkpoint import CheckpointStore
from search.study.choose_sampler import choose_sampler
from search.study.load_problem import load_problem, own_code
from search.study.study import Study, open_study

__all__ = ["create_study", "validate"]


def create_study(
    spec: StudySpec,
    storage: Storage,
    *,
    checkpoints: str | None = None,
) -> Study:
    """Create a study, or open the one that was created from the same content.

    Several processes may do so at once. The problem is asked first whether it accepts every named
    trial and both ends of every range.

    Args:
        checkpoints: a directory, or an address such as s3://bucket/prefix; default
            runs/NAME/checkpoints, or where the study that exists says. The study keeps the
            absolute path of a directory.

    Raises:
        StudyChanged: the study in the storage was created from other content.
        SpecError: the sampler or the pruner refuses an option's value.
        ProblemError: the problem refuses its data or a parameter.
        StorageError: `checkpoints` is no address of a kind that is known.
    """
    problem = validate(spec)
    chosen = choose_sampler(spec, problem)
    with own_code(spec.problem, "asked for its fingerprint"):
        fingerprint = dict(problem.fingerprint())
    percent = _percent(problem, spec.problem)
    # Refuses an address before the study bears it.
    place = CheckpointStore(checkpoints or default_checkpoints(spec.name), "").address
    try:
        Ledger.create(
            storage,
            spec.name,
            directions=[StudyDirection[spec.direction.upper()]],
            lineages=spec.trials,
            user_attrs={
                attributes.SPEC: spec.text,
                attributes.FINGERPRINT: fingerprint,
                attributes.CHECKPOINTS: place,
                attributes.PERCENT: percent,
                attributes.SAMPLER: vars(chosen),
            },
            system_attrs={attributes.METRIC_NAMES: [spec.metric]},
        )
    except optuna.exceptions.DuplicatedStudyError:
        stored = open_study(spec.name, storage).spec.text
        if differences := spec.differences(stored):
            raise StudyChanged(spec.name, differences) from None
    return Study(storage, spec.name, checkpoints=checkpoints)


def validate(spec: StudySpec) -> Problem:
    """The problem of a spec, which it and the strategies accept as far as can be told beforehand.

    Raises:
        SpecError: the sampler or the pruner refuses an option's value or does not fit the study, or
            the problem returns another metric.
        ProblemError: the problem refuses its settings or a parameter.
    """
    if spec.sampler.name != AUTO:
        make_sampler(spec.sampler.name, spec.sampler.options, seed=0, conditional=False)
    make_pruner(spec.pruner.name, spec.pruner.options)
    problem = load_problem(spec)
    returned = getattr(problem, "returns", None)
    if returned not in (None, (spec.metric, spec.direction)):
        metric, direction = returned
        raise SpecError(
            f"the problem {spec.problem!r} returns {metric!r}, to {direction}, got metric "
            f'{spec.metric!r} and direction {spec.direction!r}; write metric = "{metric}" and '
            f'direction = "{direction}"'
        )
    _check_params(problem, spec)
    choose_sampler(spec, problem)
    return problem


def _percent(problem: Problem, address: str) -> list[str]:
    names = getattr(problem, "percent", ())
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ProblemError(
            f"the problem {address!r}: percent must be a tuple of metrics' names, got {names!r}; "
            'write percent = ("val_accuracy",)'
        )
    return list(names)


def _check_params(problem: Problem, spec: StudySpec) -> None:
    with own_code(spec.problem, "asked to check parameters"):
        for named in spec.named:
            try:
                problem.check({**spec.fixed, **named.params})
            except SearchError as error:
                raise ProblemError(f"trial {named.name!r}: {error}") from error
        if spec.space.parameters:
            for point in spec.space.probes(spec.fixed):
                try:
                    problem.check({**spec.fixed, **point})
                except SearchError as error:
                    raise ProblemError(f"the space allows what cannot be run: {error}") from error


def default_checkpoints(name: str) -> str:
    """Where a study's checkpoints lie unless told otherwise."""
    return str(Path("runs") / name / "checkpoints")
