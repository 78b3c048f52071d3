"""The figures of trials step by step."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from search.report.axes import Metric, legend, legible
from search.report.curves import Pair, curve, curve_pairs
from search.report.theme import BLUE, GREEN, GREY, SERIES, VERMILLION, figure, themed

__all__ = ["draw_curves", "draw_named"]


@themed
def draw_curves(
    best: Sequence[FrozenTrial],
    pruned: Sequence[FrozenTrial],
    metric: Metric,
    title: str,
    *,
    step: str,
) -> Figure:
    """The curves of the best trials and of some pruned ones, a panel for each pair train_X, val_X.

    Args:
        best: the best first. The training curves of the first are drawn too.
        step: the label of the x axis.
    """
    pairs = curve_pairs([*best, *pruned], metric.name)
    drawn = figure(4.8 * max(1, len(pairs)), 4.2, title)
    panels = drawn.subplots(1, max(1, len(pairs)), squeeze=False)[0]
    shown_pairs: list[Pair | None] = [*pairs] or [None]
    for axes, pair in zip(panels, shown_pairs, strict=True):
        axis = metric if pair is None else metric.of_pair(pair)
        shown = metric.name if pair is None else pair.validation
        for index, trial in enumerate(pruned):
            _curve(axes, _steps(trial, shown, metric), axis, GREY, ":", "pruned", index == 0)
        for index, trial in enumerate(best[1:]):
            values = _steps(trial, shown, metric)
            _curve(axes, values, axis, BLUE, "-", "next best", index == 0, 1)
        if best:
            name = f"trial {best[0].number}"
            if pair is not None:
                train = _steps(best[0], pair.train, metric)
                _curve(axes, train, axis, VERMILLION, "--", f"{name}, training", True, 2.2)
                name += ", validation"
            _curve(axes, _steps(best[0], shown, metric), axis, GREEN, "-", name, True, 2.2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=step, ylabel=axis.label)
    legend(drawn, panels[0])
    return drawn


def _steps(trial: FrozenTrial, name: str, metric: Metric) -> dict[int, float]:
    if name == metric.name:
        return {k: v for k, v in trial.intermediate_values.items() if math.isfinite(v)}
    return curve(trial, name)


def _curve(
    axes: Axes,
    values: Mapping[int, float],
    metric: Metric,
    colour: str,
    style: str,
    label: str,
    labelled: bool,
    width: float = 1.4,
) -> None:
    steps = sorted(values)
    axes.plot(
        steps,
        [metric.place(values[step]) for step in steps],
        style,
        marker="o" if len(steps) == 1 else None,
        color=colour,
        linewidth=width,
        label=label if labelled else None,
    )


@themed
def draw_named(
    trials: Sequence[FrozenTrial], metric: Metric, title: str, *, step: str
) -> Figure | None:
    """The training and validation curves of the named trials.

    None where there are none, where no trial has more than one step, or where colours run out.
    """
    pairs = [p for p in curve_pairs(trials, metric.name) if metric.name in (p.name, p.validation)]
    if not pairs or len(trials) > len(SERIES):
        return None
    if all(len(trial.intermediate_values) < 2 for trial in trials):
        return None
    drawn = figure(9.0, 4.2, title)
    axes, axis = drawn.subplots(), metric.of_pair(pairs[0])
    for trial, colour in zip(trials, SERIES, strict=False):
        for part, word, style, width in (
            (pairs[0].train, "training", "--", 1.2),
            (pairs[0].validation, "validation", "-", 2.0),
        ):
            label = f"{legible(trial.user_attrs['name'])}, {word}"
            _curve(axes, _steps(trial, part, metric), axis, colour, style, label, True, width)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=step, ylabel=axis.label)
    # Matplotlib by itself leaves out the labels that begin with "_"
    labels = [str(line.get_label()) for line in axes.lines]
    drawn.legend(axes.lines, labels, loc="outside right center")
    return drawn
