"""What the model knows of each lineage, and what it decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

__all__ = ["Curve", "Decision", "Left", "grid"]

State = Literal["paused", "running", "complete", "ended"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One lineage as the model sees it.

    Attributes:
        lineage: its number.
        params: its searched parameters.
        values: step -> value of the metric, as reported so far. Non-finite values are ignored.
        last_step: the step whose report completes it.
        state: "ended" means diverged, failed or timed out: the curve counts as a bad final value
            and is never continued.
        until: the step at which a running lineage will pause; it counts with its predicted value
            there.
        seconds_per_step: what a step of it takes; None where that is not known. Of two that
            promise the same the quicker one is chosen.
    """

    lineage: int
    params: Mapping[str, Any]
    values: Mapping[int, float]
    last_step: int
    state: State
    until: int | None = None
    seconds_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a free worker does next.

    Attributes:
        lineage: the paused lineage to continue, or None to begin a new one.
        params: of the new one; empty otherwise.
        until: the step at which it pauses, of the grid; the last step completes it.
        threshold: the value of the metric to improve on, the best that was expected of any lineage.
        horizon: the step for which that was judged, the lineage's last one.
        mean: predicted value of the metric at the horizon.
        deviation: standard deviation of that prediction, in units of the metric.
        random: whether the choice was made at random and not by the model; threshold, mean and
            deviation are then None.
        finishes: whether the lineage is completed because the budget is nearly used up; the
            threshold is then what is expected of the best complete one, None without one.
    """

    lineage: int | None
    params: Mapping[str, Any] = field(default_factory=dict)
    until: int
    threshold: float | None = None
    horizon: int
    mean: float | None = None
    deviation: float | None = None
    random: bool
    finishes: bool = False


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of a budget; infinite where it has no such limit."""

    seconds: float = math.inf
    steps: float = math.inf

    def after(self, steps: int, seconds_per_step: float) -> "Left":
        """What is left once so many steps more have run."""
        return Left(seconds=self.seconds - steps * seconds_per_step, steps=self.steps - steps)


@lru_cache
def grid(last_step: int) -> tuple[int, ...]:
    """The steps at which a lineage may pause, its last one included.

    They are 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: about sqrt(2) apart, and the same for every last
    step, so that pauses of different lineages are comparable. A step close below the last one is
    left out.
    """
    steps, power = [1], 2
    while power < last_step:
        steps += [power, power // 2 * 3]
        power *= 2
    return (*(step for step in steps if step * CLOSE < last_step), last_step)


CLOSE = 1.2  # a pause at more than 1 / 1.2 of the last step would spare next to nothing
