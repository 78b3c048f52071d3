"""The figures of steps: regret over time, how early steps tell, what freeze-thaw paused."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from search.report.axes import Metric, legend
from search.report.steps import Expectation, Regret, Stretch
from search.report.theme import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION, figure, themed

__all__ = ["draw_agreement", "draw_expectations", "draw_pauses", "draw_regret"]


@themed
def draw_regret(regrets: Mapping[bool, Regret], metric: Metric, title: str) -> Figure:
    """The distance to the best value known, over the training that each arm spent."""
    drawn = figure(7.2, 3.6, title)
    axes = drawn.subplots()
    for control, regret in regrets.items():
        axes.step(
            [seconds / 60 for seconds in regret.seconds],
            [metric.place(value) for value in regret.values],
            where="post",
            color=VERMILLION if control else BLUE,
            linestyle="--" if control else "-",
            label="control (random)" if control else "the search",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    unit = " (percentage points)" if metric.unit == 100 else ""
    axes.set(xlabel="minutes of training", ylabel=f"behind the best value{unit}")
    legend(drawn, axes)
    return drawn


@themed
def draw_agreement(agreement: Mapping[int, float], title: str) -> Figure:
    """Spearman's rank correlation with the last value, step by step."""
    drawn = figure(7.2, 3.2, title)
    axes = drawn.subplots()
    axes.plot(list(agreement), list(agreement.values()), "-o", color=BLUE)
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.set_ylim(min(0.0, *agreement.values()) - 0.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step", ylabel="rank correlation with the last")
    return drawn


@themed
def draw_pauses(
    stretches: Sequence[Stretch],
    trials: Sequence[FrozenTrial],
    best: int | None,
    metric: Metric,
    title: str,
) -> Figure:
    """Left, which trial got the study's steps in their order; right, the curves and their pauses.

    Args:
        trials: those of the stretches.
        best: the number of the best trial.
    """
    rows = list(dict.fromkeys(one.trial for one in stretches))
    drawn = figure(9.6, 1.9 + min(5.0, 0.16 * len(rows)), title)
    left, right = drawn.subplots(1, 2)
    for label, colour, part in (
        ("begins", GREY, [s for s in stretches if s.first == 1 and s.trial != best]),
        ("goes on", BLUE, [s for s in stretches if s.first > 1 and s.trial != best]),
        ("the best trial", GREEN, [s for s in stretches if s.trial == best]),
    ):
        if part:
            left.barh(
                [rows.index(one.trial) for one in part],
                [one.last - one.first + 1 for one in part],
                left=[one.at for one in part],
                height=0.8,
                color=colour,
                edgecolor=INK,
                linewidth=0.3,
                label=label,
            )
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    left.grid(axis="y", visible=False)
    left.set(xlabel="steps that the search has run", ylabel="trials, in the order they began")
    curves = {trial.number: trial for trial in trials}
    done = [n for n in rows if curves[n].state is TrialState.COMPLETE]
    for number in sorted(rows, key=lambda n: (n == best, n in done)):  # the best above all
        values = curves[number].intermediate_values
        steps = sorted(values)
        shown = [metric.place(values[step]) for step in steps]
        colour = GREEN if number == best else BLUE if number in done else GREY
        right.plot(steps, shown, color=colour, linewidth=2.2 if number == best else 1.2)
        paused = [s.last for s in stretches if s.trial == number and s.last in values]
        right.plot(
            paused,
            [metric.place(values[step]) for step in paused],
            "o",
            color=colour,
            markersize=3.5,
            label="paused or ended" if number == rows[0] else None,
        )
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="step", ylabel=metric.label)
    legend(drawn, left)
    return drawn


@themed
def draw_expectations(
    best: FrozenTrial, expectations: Sequence[Expectation], metric: Metric, title: str
) -> Figure:
    """The best trial's curve, and what the model expected each time it chose the trial."""
    drawn = figure(7.2, 3.8, title)
    axes = drawn.subplots()
    values = best.intermediate_values
    steps = sorted(values)
    axes.plot(
        steps,
        [metric.place(values[step]) for step in steps],
        "-o",
        color=GREEN,
        label=f"trial {best.number}",
    )
    for index, one in enumerate(expectations):
        mean, deviation = metric.place(one.mean), metric.place(one.deviation)
        # Several may look at one step; they stand beside each other in their order.
        place = one.horizon + 0.012 * max(values) * (index - (len(expectations) - 1) / 2)
        if one.step in values:
            axes.plot(
                [one.step, place],
                [metric.place(values[one.step]), mean],
                ":",
                color=GREY,
                linewidth=1,
            )
        axes.errorbar(
            place,
            mean,
            2 * deviation,
            fmt="s",
            color=ORANGE,
            capsize=3,
            label="expected, and two standard deviations" if index == 0 else None,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step", ylabel=metric.label)
    legend(drawn, axes)
    return drawn
