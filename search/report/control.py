"""The study against its control: how much training each needed for the same value."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.report.facts import Point

__all__ = ["Comparison", "compare"]

RESAMPLES = 2000  # of the control
CONTROL_TRIALS = 3  # complete ones, fewer are not compared
SHORTEST_S = 1e-6  # seconds, so that no ratio divides by zero


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the random search reached, and what the study needed for it.

    low, high: 95 % interval of `ratio`, from resampling the control's trials with replacement
        and in random order. The study is one run and is not resampled: its own luck is not in it.
    """

    control_trials: int
    value: float  # the best of the control
    control_seconds: float  # of training until the control reached it
    search_seconds: float | None  # of training until the study reached it; None: it never did
    low: float  # 0 where the study did not reach what a resample reached
    high: float

    @property
    def ratio(self) -> float | None:
        """How many times less training the study needed."""
        if self.search_seconds is None:
            return None
        return self.control_seconds / max(self.search_seconds, SHORTEST_S)


def compare(points: Sequence[Point], direction: str, *, seed: int = 0) -> Comparison | None:
    """Compare the arms; None where too few trials are complete in either.

    Args:
        points: as `facts.history(..., as_pruned=True)` gives them: the audit is no cost of the
            search. Pruned trials cost their training and reach nothing.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    control = _arrays([point for point in points if point.control], sign)
    searched = _arrays([point for point in points if not point.control], sign)
    if np.isfinite(control[0]).sum() < CONTROL_TRIALS or not np.isfinite(searched[0]).any():
        return None
    target = control[0].max()
    ratios = _resampled_ratios(control, searched, np.random.default_rng(seed))
    low, high = np.quantile(ratios, [0.025, 0.975])
    needed = _until(searched, target)
    return Comparison(
        control_trials=len(control[0]),
        value=float(sign * target),
        control_seconds=_until(control, target),
        search_seconds=needed if np.isfinite(needed) else None,
        low=float(low),
        high=float(high),
    )


_Arm = tuple[NDArray[np.float64], NDArray[np.float64]]  # values, larger is better; seconds


def _arrays(points: Sequence[Point], sign: float) -> _Arm:
    values = np.array([sign * p.value if p.complete else -np.inf for p in points])
    return values, np.array([p.training_seconds for p in points])


def _resampled_ratios(
    control: _Arm, searched: _Arm, random: np.random.Generator
) -> NDArray[np.float64]:
    """The ratio for each resample in which the control has a complete trial; 0: not reached."""
    count = len(control[0])
    drawn = random.integers(0, count, (RESAMPLES, count))
    values, seconds = control[0][drawn], control[1][drawn].cumsum(axis=1)
    best = values.max(axis=1)
    needed = np.append(searched[1].cumsum(), np.inf)
    place = np.searchsorted(np.maximum.accumulate(searched[0]), best)
    first = seconds[np.arange(RESAMPLES), values.argmax(axis=1)]
    ratios: NDArray[np.float64] = first / np.maximum(needed[place], SHORTEST_S)
    sound: NDArray[np.float64] = ratios[np.isfinite(best)]
    return sound


def _until(arm: _Arm, target: float) -> float:
    """Training seconds until a value was reached, in the order given; infinite when never."""
    values, seconds = arm
    reached = np.flatnonzero(values >= target)
    return float(seconds[: reached[0] + 1].sum()) if len(reached) else np.inf
