"""The parameters with which the best configuration is trained again on all data (`[refit]`)."""

from collections.abc import Mapping
from typing import Any

from search.aims.foreknown import excesses, static_metrics
from search.errors import ProblemError, SearchError, SpecError
from search.problem import Problem, Refitting
from search.spec import StudySpec

__all__ = ["refit_params"]


def refit_params(
    problem: Problem,
    spec: StudySpec,
    params: Mapping[str, Any],
    *,
    proposed: StudySpec,
    whose: str,
) -> dict[str, Any]:
    """Every parameter of a training of a trial's configuration on all data.

    Args:
        spec: the present one, with `[refit]`.
        params: all of a trial.
        proposed: the spec that they are of.
        whose: names the trial, or trials, in messages.

    Raises:
        ProblemError: the present `[refit]` does not go with these parameters.
        SpecError: the problem takes no `[refit]`.
    """
    if not spec.refit:
        return dict(params)
    if not isinstance(problem, Refitting):
        raise SpecError(
            "[refit] needs a problem whose best configuration is trained again on all data, got "
            f"{spec.problem!r} without the method refit_params; leave it out, or add the method "
            "(see search.problem.Refitting)"
        )
    try:
        mixed = proposed.space.overridden(params, spec.refit)
        made = dict(problem.refit_params(mixed, spec.refit))
        known = static_metrics(problem, spec, made)
    except SearchError as error:
        raise ProblemError(
            f"change [refit], which does not go with the parameters of {whose}: {error}"
        ) from error
    for name, excess in excesses(spec, known).items():
        if excess > 0 and excesses(spec, static_metrics(problem, spec, params))[name] <= 0:
            bound = next(str(each) for each in spec.constraints if each.name == name)
            raise ProblemError(
                f"[refit] breaks a constraint with the parameters of {whose}: need {bound}, got "
                f"{known[name]:g}; change [refit], or the constraint"
            )
    return made
