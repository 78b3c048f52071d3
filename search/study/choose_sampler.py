"""Chooses the sampler of a study: the one its file names, or for `auto` freeze-thaw or TPE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import SearchError, SpecError
from search.problem import Problem, Resumable
from search.spec import StudySpec
from search.spec.freeze_thaw import Hindrance, find_hindrance
from search.spec.strategies import AUTO, FREEZE_THAW
from search.study.load_problem import check_last_step, own_code

__all__ = ["Chosen", "choose_sampler"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A study's sampler; stored with the study.

    Attributes:
        reason: why this one, in a few words.
    """

    name: str
    reason: str

    @classmethod
    def of(cls, spec: StudySpec, stored: Mapping[str, str] | None) -> "Chosen":
        """What was stored with a study; one of an older version stored nothing."""
        if stored is not None:
            return cls(**stored)
        if spec.sampler.name == AUTO:
            return cls(name="tpe", reason="the study was created by an older version")
        return cls(name=spec.sampler.name, reason="the study file names it")


def choose_sampler(spec: StudySpec, problem: Problem) -> Chosen:
    """The sampler of a new study.

    Raises:
        SpecError: the file names freeze-thaw, and the problem's trials cannot be paused; or it has
            an [audit], and nothing that would end trials early.
        ProblemError: the problem's `last_step` failed.
    """
    if spec.sampler.name not in (AUTO, FREEZE_THAW):
        return Chosen(name=spec.sampler.name, reason="the study file names it")
    hindrance = find_hindrance(spec) or _of_problem(spec, problem)
    if spec.sampler.name == FREEZE_THAW:
        if hindrance is not None:
            raise SpecError(hindrance.message)
        return Chosen(name=FREEZE_THAW, reason="the study file names it")
    if hindrance is None:
        return Chosen(
            name=FREEZE_THAW, reason="its trials can be paused, and the budget ends the search"
        )
    if spec.audit and spec.pruner.name == "none":
        raise SpecError(
            "audit lets pruned trials run on, got no [pruner], and no freeze-thaw, which needs "
            f"{hindrance.rule}; {hindrance.remedy}, or add a [pruner]"
        )
    return Chosen(name="tpe", reason=f"freeze-thaw needs {hindrance.rule}, got {hindrance.got}")


def _of_problem(spec: StudySpec, problem: Problem) -> Hindrance | None:
    """The reason against freeze-thaw that lies in the problem."""
    rule = "a problem whose trials can be paused"
    if not isinstance(problem, Resumable):
        return Hindrance(
            rule=rule,
            got=f"{spec.problem} without the method last_step",
            remedy="add it (see search.problem.Resumable)",
        )
    points: list[Mapping[str, Any]] = [named.params for named in spec.named]
    points += spec.space.probes(spec.fixed)
    for point in points:
        with own_code(spec.problem, "asked for the last step of a trial"):
            try:
                last = problem.last_step({**spec.fixed, **point})
            except SearchError as error:
                return Hindrance(rule=rule, got=f"one that says: {error}", remedy="change that")
        check_last_step(spec.problem, last)
    return None
