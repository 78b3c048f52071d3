"""Asks a problem and the strategies whether they accept what a study file allows."""

from itertools import chain

from search.aims.foreknown import check_metrics, random_points
from search.aims.refit import refit_params
from search.errors import ProblemError, SearchError, SpecError
from search.problem import Problem, Reshuffling
from search.sampling.make import make_pruner, make_sampler
from search.spec import StudySpec
from search.spec.strategies import AUTO
from search.study.choose_sampler import choose_sampler
from search.study.load_problem import load_problem, own_code

__all__ = ["validate"]


def validate(spec: StudySpec) -> Problem:
    """The problem of a spec, which it and the strategies accept as far as can be told beforehand.

    Raises:
        SpecError: the sampler or the pruner refuses an option's value or does not fit the study,
            the problem returns another metric, or the constraints cannot be kept.
        ProblemError: the problem refuses its settings or a parameter.
    """
    if spec.sampler.name != AUTO:
        make_sampler(spec.sampler.name, spec.sampler.options, seed=0, conditional=False)
    make_pruner(spec.pruner.name, spec.pruner.options)
    problem = load_problem(spec)
    returned = getattr(problem, "returns", None)
    if returned is not None and (
        not isinstance(returned, tuple) or [type(one) for one in returned] != [str, str]
    ):
        raise ProblemError(
            f"the problem {spec.problem!r}: returns must be a tuple of a metric and a direction, "
            f'got {returned!r}; write returns = ("{spec.metric}", "{spec.direction}")'
        )
    if returned not in (None, (spec.metric, spec.direction)):
        metric, direction = returned
        raise SpecError(
            f"the problem {spec.problem!r} returns {metric!r}, to {direction}, got metric "
            f'{spec.metric!r} and direction {spec.direction!r}; write metric = "{metric}" and '
            f'direction = "{direction}"'
        )
    _check_params(problem, spec)
    with own_code(spec.problem, "asked for the metrics of a configuration"):
        check_metrics(problem, spec)
    choose_sampler(spec, problem)
    _check_reshuffling(problem, spec)
    return problem


def _check_reshuffling(problem: Problem, spec: StudySpec) -> None:
    """Refuse trials on other splits where the problem cannot draw any."""
    confirms = spec.confirm is not None and spec.confirm.reshuffled
    if not confirms and not any(named.reshuffle for named in spec.named):
        return
    what = 'splits = "reshuffled" in [confirm]' if confirms else "reshuffle in [[trials]]"
    instead = 'write splits = "same"' if confirms else "leave it out"
    if spec.folds is not None:
        raise SpecError(f"{what} needs one held-out part, got {spec.folds} folds; {instead}")
    if not isinstance(problem, Reshuffling):
        raise SpecError(
            f"{what} needs a problem that draws other splits, got {spec.problem!r} without the "
            f"method reshuffled; {instead}, or add it (see search.problem.Reshuffling)"
        )


def _check_params(problem: Problem, spec: StudySpec) -> None:
    with own_code(spec.problem, "asked to check parameters"):
        for named in spec.named:
            try:
                problem.check({**spec.fixed, **named.params})
            except SearchError as error:
                raise ProblemError(f"trial {named.name!r} with [fixed]: {error}") from error
            whole, whose = {**spec.fixed, **named.params}, f"trial {named.name!r}"
            refit_params(problem, spec, whole, proposed=spec, whose=whose)
        if spec.space.parameters:
            # The ends alone do not show two values that exclude each other.
            for point in chain(spec.space.probes(spec.fixed), random_points(spec, spec.seed)):
                try:
                    problem.check({**spec.fixed, **point})
                except SearchError as error:
                    what = "[fixed] and [space] allow what cannot be run"
                    raise ProblemError(f"{what}: {error}") from error
                whole = {**spec.fixed, **point}
                refit_params(problem, spec, whole, proposed=spec, whose="some trials")
