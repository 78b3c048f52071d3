"""Figures of the parameters: importances, slices, parallel coordinates."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from search.outcome import is_feasible
from search.report.axes import RASTER_ABOVE, Metric, focus, legend, legible, log_ticks, some
from search.report.facts import is_control
from search.report.theme import BLUE, GREY, INK, PAPER, PURPLE, VERMILLION, figure, themed
from search.text import figure as show_figure

__all__ = ["BARS_SHOWN", "PARAMS_SHOWN", "draw_importances", "draw_parallel", "draw_slices"]

PARAMS_SHOWN = 12  # of a slice figure, and of parallel coordinates
BARS_SHOWN = 40  # of importances
CHOICES_SHOWN = 12  # of one parameter, as labels of its axis
ROW_CHARACTERS = 30  # below the axis of one slice
BEST_SHARE = 0.1  # of the trials that parallel coordinates bring out


@themed
def draw_importances(shares: Mapping[str, float], unknown: Sequence[str], title: str) -> Figure:
    """One bar per parameter, the largest on top.

    Args:
        unknown: parameters that too few trials have. They are listed below, without a bar.
    """
    names = [*shares, *unknown][:BARS_SHOWN][::-1]
    drawn = figure(7.2, 0.9 + 0.32 * len(names), title)
    axes = drawn.subplots()
    rows = range(len(names))
    bars = axes.barh(rows, [100 * shares.get(name, 0.0) for name in names], color=BLUE, height=0.65)
    axes.set_yticks(rows, [legible(name) for name in names])
    labels = [
        f"{100 * shares[name]:.0f} %" if name in shares else "too few trials" for name in names
    ]
    axes.bar_label(bars, labels, padding=3)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the variation of the value that it explains (%)")
    return drawn


@themed
def draw_slices(
    trials: Sequence[FrozenTrial], params: Sequence[str], metric: Metric, title: str
) -> Figure:
    """The value over each parameter alone."""
    shown = params[:PARAMS_SHOWN]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    drawn = figure(2.5 * columns + 0.6, 2.25 * rows + 0.9, title)
    grid = drawn.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, shown, strict=False):
        having = [trial for trial in trials if name in trial.params and trial.value is not None]
        distribution: Any = _joint(having, name)
        choices = _choices(distribution)
        for label, colour, marker in (
            ("pruned, last value", GREY, "x"),
            ("breaks a constraint", PURPLE, "s"),
            ("complete", BLUE, "o"),
            ("control (random)", VERMILLION, "^"),
        ):
            if not any(_kind(trial) == label for trial in trials):
                continue
            part = [trial for trial in having if _kind(trial) == label]
            axes.plot(
                [_place(trial.params[name], choices) for trial in part],
                [metric.place(float(trial.value or 0.0)) for trial in part],
                marker,
                color=colour,
                label=label,
                markersize=4,
                alpha=0.8,
                rasterized=len(part) > RASTER_ABOVE / len(shown),
            )
        if choices is not None:
            _label_choices(axes, choices)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
            ticks = log_ticks(*axes.get_xlim())
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        elif isinstance(distribution, IntDistribution):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_xlabel(legible(name, 28))
    focus(grid[0], [metric.place(t.value) for t in trials if t.value is not None], metric)
    for axes in grid[: len(shown) : columns]:
        axes.set_ylabel(metric.label, fontsize=8.5)
    legend(drawn, grid[0])
    return drawn


def _label_choices(axes: Axes, choices: Sequence[Any]) -> None:
    """Labels that fit beside each other, or else stand aslant."""
    shown = some(len(choices), CHOICES_SHOWN)
    texts = [legible(choices[place], 16) for place in shown]
    axes.set_xticks(list(shown), texts)
    if sum(map(len, texts)) + 2 * len(texts) > ROW_CHARACTERS:
        axes.tick_params(axis="x", rotation=40)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")


def _kind(trial: FrozenTrial) -> str:
    if trial.state is TrialState.PRUNED:
        return "pruned, last value"
    if not is_feasible(trial):
        return "breaks a constraint"
    return "control (random)" if is_control(trial) else "complete"


def _joint(trials: Sequence[FrozenTrial], name: str) -> BaseDistribution:
    """A distribution that contains a parameter's values in all these trials.

    They have the same one unless the study's space was amended.
    """
    first = trials[0].distributions[name]
    known: list[Any] = [first]
    for trial in trials:
        if trial.distributions[name] not in known:
            known.append(trial.distributions[name])
    if len(known) == 1:
        return first
    if all(isinstance(one, CategoricalDistribution) for one in known):
        return CategoricalDistribution(list(dict.fromkeys(c for one in known for c in one.choices)))
    if any(isinstance(one, CategoricalDistribution) for one in known):
        return CategoricalDistribution(list(dict.fromkeys(t.params[name] for t in trials)))
    low, high = min(one.low for one in known), max(one.high for one in known)
    log = all(one.log for one in known)
    if all(isinstance(one, IntDistribution) for one in known):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _choices(distribution: Any) -> Sequence[Any] | None:
    return getattr(distribution, "choices", None)


def _place(value: Any, choices: Sequence[Any] | None) -> float:
    return float(value if choices is None else choices.index(value))


@themed
def draw_parallel(
    trials: Sequence[FrozenTrial], params: Sequence[str], metric: Metric, title: str
) -> Figure:
    """Each complete trial as a line over all parameters; the best tenth is highlighted.

    A trial's line is dotted across a parameter that it does not have.
    """
    shown = list(params[:PARAMS_SHOWN])
    sign = 1 if metric.direction == "maximize" else -1
    ranked = sorted(trials, key=lambda t: sign * float(t.value or 0.0))
    count = max(1, round(BEST_SHARE * len(ranked)))
    drawn = figure(max(6.0, 1.15 * (len(shown) + 1)), 4.2, title)
    axes = drawn.subplots()
    scales = [_scale(ranked, name) for name in shown]
    values = [metric.place(float(trial.value or 0.0)) for trial in ranked]
    low, high = min(values), max(values)
    for index, (trial, value) in enumerate(zip(ranked, values, strict=True)):
        best = index >= len(ranked) - count
        heights = [
            place(trial.params[name]) if name in trial.params else math.nan
            for name, (place, _) in zip(shown, scales, strict=True)
        ]
        heights.append((value - low) / (high - low or 1.0))
        look: dict[str, Any] = {
            "color": VERMILLION if best else GREY,
            "alpha": 1.0 if best else 0.55,
            "rasterized": not best and len(ranked) > 200,
        }
        axes.plot(
            range(len(shown) + 1),
            heights,
            linewidth=2.0 if best else 0.9,
            marker="o" if best else None,
            **look,
        )
        present = [(at, height) for at, height in enumerate(heights) if not math.isnan(height)]
        for (left, before), (right, after) in pairwise(present):
            if right > left + 1:
                axes.plot([left, right], [before, after], ":", linewidth=0.9, **look)
    ends = [(0.0, show_figure(low)), (1.0, show_figure(high))]
    for place, ticks in enumerate([*(ticks for _, ticks in scales), ends]):
        for height, text in ticks:
            # the ends stand above and below the lines; what lies between, on a patch of paper
            below, above = height == 0.0, height == 1.0
            axes.annotate(
                text,
                (place, height),
                xytext=(0, -4 if below else 4 if above else 0),
                textcoords="offset points",
                fontsize=7.5,
                ha="center",
                va="top" if below else "bottom" if above else "center",
                bbox=None
                if below or above
                else {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
                zorder=3,
            )
    axes.set_ylim(-0.09, 1.09)
    names = [*(legible(name, 24) for name in shown), metric.label]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(shown) + 0.45)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=INK, alpha=0.5)
    word = "trial" if count == 1 else f"{count} trials"
    axes.plot([], [], color=VERMILLION, linewidth=2, marker="o", label=f"the best {word}")
    axes.plot([], [], color=GREY, label="the other complete trials")
    legend(drawn, axes)
    return drawn


def _scale(trials: Sequence[FrozenTrial], name: str) -> tuple[Any, list[tuple[float, str]]]:
    """A function from a parameter's value to a height of 0 to 1, and the labels of its axis."""
    distribution: Any = _joint([trial for trial in trials if name in trial.params], name)
    choices = _choices(distribution)
    if choices is not None:
        last = max(1, len(choices) - 1)
        return (
            lambda value: choices.index(value) / last,
            [(at / last, legible(choices[at], 12)) for at in some(len(choices), CHOICES_SHOWN)],
        )
    warp = math.log if distribution.log else float
    low, high = warp(distribution.low), warp(distribution.high)
    return (
        lambda value: (warp(value) - low) / (high - low or 1.0),
        [(0.0, f"{distribution.low:.4g}"), (1.0, f"{distribution.high:.4g}")],
    )
