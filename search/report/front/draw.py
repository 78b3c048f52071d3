"""The figure of two metrics: every complete trial, and the front."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from search.outcome import is_feasible
from search.report.axes import RASTER_ABOVE, Metric, legend
from search.report.theme import BLUE, PURPLE, VERMILLION, figure, themed

__all__ = ["draw_front"]


@themed
def draw_front(
    trials: Sequence[FrozenTrial],
    front: Sequence[FrozenTrial],
    metrics: Sequence[Metric],
    title: str,
) -> Figure:
    """Complete trials by the first metric upwards and the second to the right.

    Args:
        trials: with two values where they are complete.
        front: in order of the first metric.
    """
    drawn = figure(6.4, 4.2, title)
    axes = drawn.subplots()
    first, second = metrics
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.values]
    for feasible, colour, marker, label in (
        (True, BLUE, "o", "complete"),
        (False, PURPLE, "s", "breaks a constraint"),
    ):
        some = [trial for trial in complete if is_feasible(trial) is feasible]
        if some:
            axes.plot(
                [second.place(trial.values[1]) for trial in some],
                [first.place(trial.values[0]) for trial in some],
                linestyle="none",
                marker=marker,
                markersize=4,
                color=colour,
                label=label,
                rasterized=len(some) > RASTER_ABOVE,
            )
    axes.plot(
        [second.place(trial.values[1]) for trial in front],
        [first.place(trial.values[0]) for trial in front],
        marker="o",
        markersize=6,
        color=VERMILLION,
        label="front",
    )
    axes.set_xlabel(second.label)
    axes.set_ylabel(first.label)
    legend(drawn, axes)
    return drawn
