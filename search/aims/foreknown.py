"""What is known of a configuration before it is trained: its metrics, and whether they will do."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from search.errors import ProblemError, SpecError, nearest
from search.problem import Problem, StaticMetrics
from search.sampling.freeze_thaw.encoding import Encoding
from search.spec import StudySpec

__all__ = [
    "DRAWN",
    "check_known",
    "check_metrics",
    "excesses",
    "keeps_known",
    "random_points",
    "static_metrics",
]

DRAWN = 500  # random configurations among which a feasible one must be


def static_metrics(
    problem: Problem, spec: StudySpec, params: Mapping[str, Any]
) -> dict[str, float]:
    """The metrics of a configuration that need no training; empty where the study needs none.

    Args:
        params: all of them, `[fixed]` included.
    """
    if not isinstance(problem, StaticMetrics) or spec.wanted == {spec.metric}:
        return {}
    return {name: float(value) for name, value in problem.static_metrics(params).items()}


def excesses(spec: StudySpec, metrics: Mapping[str, float]) -> dict[str, float]:
    """For each constraint on one of these metrics, how far it is broken; 0 or less: it is kept."""
    return {
        each.name: each.excess(metrics[each.name])
        for each in spec.constraints
        if each.name in metrics
    }


def keeps_known(problem: Problem, spec: StudySpec, params: Mapping[str, Any]) -> bool:
    """Whether a configuration keeps all constraints that are known before it is trained."""
    if not spec.constraints:
        return True
    return all(x <= 0 for x in excesses(spec, static_metrics(problem, spec, params)).values())


def random_points(spec: StudySpec, seed: int, count: int = DRAWN) -> Iterable[dict[str, Any]]:
    """Configurations of the space, drawn at random, `[fixed]` left out."""
    encoding, rng = Encoding(spec.space, spec.fixed), np.random.default_rng(seed)
    return (point for _ in range(count) for point in encoding.sample(rng, 1))


def check_metrics(problem: Problem, spec: StudySpec) -> None:
    """Refuse a study whose aims and constraints its problem cannot serve.

    Raises:
        SpecError: a metric is none of the problem's, a named trial breaks a constraint, or no
            configuration that was drawn keeps them all.
        ProblemError: `measures` is no tuple of names.
    """
    if spec.wanted == {spec.metric}:
        return
    measured = getattr(problem, "measures", ())
    if not isinstance(measured, tuple | list) or not all(isinstance(m, str) for m in measured):
        raise ProblemError(
            f"the problem {spec.problem!r}: measures must be a tuple of metrics' names, got "
            f'{measured!r}; write measures = ("latency_ms",)'
        )
    points = [named.params for named in spec.named]
    points += [next(iter(random_points(spec, 0)))] if spec.space.parameters else []
    known = static_metrics(problem, spec, {**spec.fixed, **points[0]})
    _check_names(spec, {spec.metric, *measured, *known})
    for named in spec.named:
        check_known(problem, spec, {**spec.fixed, **named.params}, f"trial {named.name!r}")
    _check_some_feasible(problem, spec)


def check_known(problem: Problem, spec: StudySpec, params: Mapping[str, Any], which: str) -> None:
    """Raise `SpecError` where a configuration breaks a constraint known before it is trained.

    Args:
        params: all of them, `[fixed]` included.
        which: names the trial in the message.
    """
    metrics = static_metrics(problem, spec, params)
    for name, excess in excesses(spec, metrics).items():
        if excess > 0:
            raise SpecError(
                f"{which} breaks a constraint: need {_bound(spec, name)}, got {metrics[name]:g}; "
                "change it, or the constraint"
            )


def _check_names(spec: StudySpec, known: set[str]) -> None:
    for name in (*spec.metrics, *(each.name for each in spec.constraints)):
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(sorted(known))}"
            raise SpecError(
                f"the problem {spec.problem!r} has no metric {name!r}; {hint} (its attribute "
                "`measures` and its method `static_metrics` name them)"
            )


def _check_some_feasible(problem: Problem, spec: StudySpec) -> None:
    """Draw configurations until one keeps all constraints that are known in advance."""
    if not spec.constraints or not spec.space.parameters or spec.sampler.name == "grid":
        return
    for point in random_points(spec, spec.seed):
        if keeps_known(problem, spec, {**spec.fixed, **point}):
            return
    raise SpecError(
        f"none of {DRAWN} configurations drawn at random keeps "
        f"{', '.join(map(str, spec.constraints))}; widen the bounds, or narrow [space] to where "
        "they are kept"
    )


def _bound(spec: StudySpec, name: str) -> str:
    return next(str(each) for each in spec.constraints if each.name == name)
