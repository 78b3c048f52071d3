"""What a problem's `run` returned, as the metrics of its trial."""

import math
from collections.abc import Mapping

from search.problem import Diverged
from search.spec import StudySpec
from search.text import counted

__all__ = ["metrics_of"]

# What is stored with a trial is bounded.
MOST_METRICS = 1_000
NAME_CHARACTERS = 200  # of a metric's name


def metrics_of(
    spec: StudySpec, returned: float | Mapping[str, float], known: Mapping[str, float]
) -> dict[str, float]:
    """The metrics of a trial by name, those that were known in advance included.

    Raises:
        Diverged: one that the study needs is not finite.
        TypeError: one that the study needs is missing, or is no number. That is the problem's
            fault, and ends the trial as an error of its code.
        ValueError: there are too many, or a name is too long; the same.
    """
    if isinstance(returned, Mapping):
        measured = {str(name): float(value) for name, value in returned.items()}
        length = max(map(len, measured), default=0)
        if len(measured) > MOST_METRICS or length > NAME_CHARACTERS:
            raise ValueError(
                f"run may return {MOST_METRICS:,} metrics with names of {NAME_CHARACTERS} "
                f"characters, got {counted(len(measured), 'metric')}, the longest name {length:,}"
            )
    else:
        measured = {spec.metric: float(returned)}
    metrics = {**known, **measured}
    missing = sorted(spec.wanted - metrics.keys())
    if missing:
        got = ", ".join(metrics) if isinstance(returned, Mapping) else "a number"
        raise TypeError(
            f"run must return {counted(len(missing), 'more metric')} by name "
            f"({', '.join(missing)}), got {got}"
        )
    for name in spec.wanted:
        if not math.isfinite(metrics[name]):
            what = "the final value" if name == spec.metric else f"the metric {name}"
            raise Diverged(f"{what} is {metrics[name]}")
    return metrics
