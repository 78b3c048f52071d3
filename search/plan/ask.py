"""Asks a problem what a configuration looks like and what it costs, and checks the answers."""

import math
import operator
from collections.abc import Mapping
from typing import Any

from search.errors import ProblemError
from search.problem import Cost, Outline, Probing
from search.spec.values import shown
from search.study.load_problem import own_code

__all__ = ["TooLarge", "cost_of", "outline_of"]


class TooLarge(Exception):
    """The machine has too little memory for a configuration; the message is one line."""


def outline_of(problem: Probing, name: str, params: Mapping[str, Any]) -> Outline:
    """The outline of a configuration, in numbers of Python.

    Raises:
        ProblemError: the problem fails, or returns anything but an outline.
    """
    with own_code(name, "asked for the outline of a configuration"):
        found = problem.outline(params)
    if isinstance(found, Outline) and isinstance(found.remarks, tuple | list):
        size = _number(found.size)
        if math.isfinite(size) and all(isinstance(one, str) for one in found.remarks):
            return Outline(size=size, remarks=tuple(found.remarks))
    raise ProblemError(
        f"the problem {name!r}: outline must return an Outline with a finite size and a tuple of "
        f"strings as remarks, got {shown(found)}; correct its code"
    )


def cost_of(problem: Probing, name: str, params: Mapping[str, Any]) -> Cost:
    """The cost of a configuration, in numbers of Python.

    Raises:
        TooLarge: there is too little memory for it.
        ProblemError: the problem fails, or returns anything but a cost.
    """
    with own_code(name, "asked to probe a configuration"):
        try:
            found, failure = problem.probe(params), None
        except MemoryError as error:
            found, failure = None, str(error).partition("\n")[0] or "out of memory"
    if failure is not None:
        raise TooLarge(failure)
    if isinstance(found, Cost):
        steps, share = _whole(found.steps), _number(found.share)
        step, start = _number(found.step_seconds), _number(found.start_seconds)
        if steps >= 1 and step >= 0 and start >= 0 and 0 < share <= 1:
            return Cost(steps=steps, step_seconds=step, start_seconds=start, share=share)
    raise ProblemError(
        f"the problem {name!r}: probe must return a Cost with steps >= 1, finite seconds >= 0 and "
        f"a share above 0 and up to 1, got {shown(found)}; correct its code"
    )


def _number(value: Any) -> float:
    """A number of any library as one of Python; NaN for anything else, and for an infinite one."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _whole(value: Any) -> int:
    """A whole number of any library as one of Python; -1 for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return -1
