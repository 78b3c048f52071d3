"""The figures of any study. Each takes data and gives a Matplotlib figure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.report.facts import (
    AuditedTrial,
    Pair,
    Point,
    Span,
    curve,
    curve_pairs,
    is_control,
    running_best,
)
from search.report.theme import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SERIES,
    VERMILLION,
    figure,
    themed,
)

__all__ = ["Metric", "draw_audit", "draw_curves", "draw_history", "draw_importances", "draw_named",
           "draw_parallel", "draw_slices", "draw_timeline"]  # fmt: skip

CURVES_SHOWN = 5  # of the best, and of the pruned trials
PARAMS_SHOWN = 12  # of a slice figure, and of parallel coordinates
RASTER_ABOVE = 1500  # points; so many are kept as a picture, or the page would grow with them
BEST_SHARE = 0.1  # of the trials that parallel coordinates bring out


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A study's value on an axis; shares whose name says accuracy are shown in percent."""

    name: str
    direction: str

    @property
    def unit(self) -> float:
        return 100.0 if self.name.endswith("accuracy") else 1.0

    @property
    def label(self) -> str:
        words = self.name.replace("val_", "validation_").replace("_", " ")
        return f"{words} (%)" if self.unit == 100 else words

    def show(self, value: float) -> str:
        """A value with its unit."""
        return f"{100 * value:.2f} %" if self.unit == 100 else f"{value:.4g}"


@themed
def draw_history(points: Sequence[Point], metric: Metric, title: str) -> Figure:
    """The values over trials and over wall-clock time, with the best so far of each arm."""
    drawn = figure(9.6, 3.9, title)
    left, right = drawn.subplots(1, 2, sharey=True)
    places: tuple[tuple[Axes, Callable[[Point], float], str], ...] = (
        (left, lambda p: p.number, "trial"),
        (right, lambda p: 60 * p.hours, "minutes since the first trial began"),
    )
    for axes, where, label in places:
        for control, colour, marker, name in (
            (False, BLUE, "o", "complete"),
            (True, VERMILLION, "^", "control (random)"),
        ):
            arm = [p for p in points if p.control is control]
            arm.sort(key=where)
            done = [p for p in arm if p.complete]
            _points(axes, [where(p) for p in done], done, metric, marker, colour, name)
            best = running_best(arm, metric.direction)
            if best:
                axes.step(
                    [where(p) for p, _ in best],
                    [metric.unit * value for _, value in best],
                    color=colour,
                    linestyle="--" if control else "-",
                    where="post",
                    label=f"best so far{' (control)' if control else ''}",
                )
        pruned = [p for p in points if not p.complete]
        _points(axes, [where(p) for p in pruned], pruned, metric, "x", GREY, "pruned, last value")
        axes.set_xlabel(label)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel(metric.label)
    _focus(left, [metric.unit * p.value for p in points], metric)
    _legend(drawn, left)
    return drawn


def _points(
    axes: Axes,
    x: Sequence[Any],
    points: Sequence[Point],
    metric: Metric,
    marker: str,
    colour: str,
    label: str,
) -> None:
    if points:
        axes.plot(
            x,
            [metric.unit * p.value for p in points],
            marker,
            color=colour,
            label=label,
            alpha=0.85,
            rasterized=len(points) > RASTER_ABOVE,
        )


def _focus(axes: Axes, values: Sequence[float], metric: Metric) -> None:
    """Cut far outliers off on the worse side, and say how many."""
    if len(values) < 8:
        return
    ranked = sorted(values, reverse=metric.direction == "maximize")
    best, middle = ranked[0], ranked[len(ranked) // 2]
    reach = 4 * abs(best - middle)
    limit = best - reach if metric.direction == "maximize" else best + reach
    outside = [v for v in values if (v < limit if metric.direction == "maximize" else v > limit)]
    if not outside or not reach:
        return
    inside = [value for value in values if value not in outside]
    pad = 0.06 * (max(inside) - min(inside))
    axes.set_ylim(min(inside) - pad, max(inside) + pad)
    axes.annotate(
        f"{len(outside)} worse, outside",
        (0.99, 0.02 if metric.direction == "maximize" else 0.98),
        xycoords="axes fraction",
        ha="right",
        va="bottom" if metric.direction == "maximize" else "top",
        fontsize=8,
    )


def _legend(drawn: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))


@themed
def draw_curves(
    best: Sequence[FrozenTrial], pruned: Sequence[FrozenTrial], metric: Metric, title: str
) -> Figure:
    """Curves of the best trials and of some pruned ones: each pair train_X, val_X that they report.

    Args:
        best: the best first; of it the training curves are drawn too.
    """
    pairs = curve_pairs([*best, *pruned], metric.name)
    drawn = figure(4.8 * max(1, len(pairs)), 4.2, title)
    panels = drawn.subplots(1, max(1, len(pairs)), squeeze=False)[0]
    shown_pairs: list[Pair | None] = [*pairs] or [None]
    for axes, pair in zip(panels, shown_pairs, strict=True):
        axis = metric if pair is None else Metric(name=pair.name, direction=metric.direction)
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
        axes.set(xlabel="step (epoch or fold)", ylabel=axis.label)
    _legend(drawn, panels[0])
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
        [metric.unit * values[step] for step in steps],
        style,
        marker="o" if len(steps) == 1 else None,
        color=colour,
        linewidth=width,
        label=label if labelled else None,
    )


@themed
def draw_named(trials: Sequence[FrozenTrial], metric: Metric, title: str) -> Figure | None:
    """The named trials side by side: training and validation of each; None without such curves."""
    pairs = [p for p in curve_pairs(trials, metric.name) if metric.name in (p.name, p.validation)]
    if not pairs or len(trials) > len(SERIES):
        return None
    drawn = figure(9.0, 4.2, title)
    axes = drawn.subplots()
    for trial, colour in zip(trials, SERIES, strict=False):
        for part, word, style, width in (
            (pairs[0].train, "training", "--", 1.2),
            (pairs[0].validation, "validation", "-", 2.0),
        ):
            label = f"{trial.user_attrs['name']}, {word}"
            _curve(axes, _steps(trial, part, metric), metric, colour, style, label, True, width)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name = Metric(name=pairs[0].name, direction=metric.direction)
    axes.set(xlabel="step (epoch or fold)", ylabel=name.label)
    drawn.legend(loc="outside right center")
    return drawn


@themed
def draw_importances(shares: Mapping[str, float], title: str) -> Figure:
    """One bar per parameter, the largest on top."""
    drawn = figure(7.2, 0.9 + 0.32 * len(shares), title)
    axes = drawn.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [100 * shares[name] for name in names], color=BLUE, height=0.65)
    axes.bar_label(bars, fmt="%.0f %%", padding=3)
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
        distribution: Any = having[0].distributions[name]
        choices = _choices(distribution)
        for label, colour, marker in (
            ("pruned, last value", GREY, "x"),
            ("complete", BLUE, "o"),
            ("control (random)", VERMILLION, "^"),
        ):
            if not any(_kind(trial) == label for trial in trials):
                continue
            part = [trial for trial in having if _kind(trial) == label]
            axes.plot(
                [_place(trial.params[name], choices) for trial in part],
                [metric.unit * float(trial.value or 0.0) for trial in part],
                marker,
                color=colour,
                label=label,
                markersize=4,
                alpha=0.8,
                rasterized=len(part) > RASTER_ABOVE / len(shown),
            )
        if choices is not None:
            axes.set_xticks(range(len(choices)), [str(choice) for choice in choices])
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
        elif isinstance(distribution, IntDistribution):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_xlabel(name)
    _focus(grid[0], [metric.unit * t.value for t in trials if t.value is not None], metric)
    for axes in grid[: len(shown) : columns]:
        axes.set_ylabel(metric.label, fontsize=8.5)
    _legend(drawn, grid[0])
    return drawn


def _kind(trial: FrozenTrial) -> str:
    if trial.state is TrialState.PRUNED:
        return "pruned, last value"
    return "control (random)" if is_control(trial) else "complete"


def _choices(distribution: Any) -> Sequence[Any] | None:
    return getattr(distribution, "choices", None)


def _place(value: Any, choices: Sequence[Any] | None) -> float:
    return float(value if choices is None else choices.index(value))


@themed
def draw_parallel(
    trials: Sequence[FrozenTrial], params: Sequence[str], metric: Metric, title: str
) -> Figure:
    """Each complete trial as a line over all parameters; the best tenth is brought out.

    A trial's line has a gap where it does not have the parameter.
    """
    shown = list(params[:PARAMS_SHOWN])
    sign = 1 if metric.direction == "maximize" else -1
    ranked = sorted(trials, key=lambda t: sign * float(t.value or 0.0))
    count = max(1, round(BEST_SHARE * len(ranked)))
    drawn = figure(max(6.0, 1.15 * (len(shown) + 1)), 4.2, title)
    axes = drawn.subplots()
    scales = [_scale(ranked, name) for name in shown]
    values = [metric.unit * float(trial.value or 0.0) for trial in ranked]
    low, high = min(values), max(values)
    for index, (trial, value) in enumerate(zip(ranked, values, strict=True)):
        best = index >= len(ranked) - count
        heights = [
            place(trial.params[name]) if name in trial.params else math.nan
            for name, (place, _) in zip(shown, scales, strict=True)
        ]
        axes.plot(
            range(len(shown) + 1),
            [*heights, (value - low) / (high - low or 1.0)],
            color=VERMILLION if best else GREY,
            linewidth=2.0 if best else 0.9,
            alpha=1.0 if best else 0.55,
            marker="o" if best else None,
            rasterized=not best and len(ranked) > 200,
        )
    for place, (_, ticks) in enumerate(scales):
        for height, text in ticks:
            axes.annotate(text, (place, height), xytext=(3, 0), textcoords="offset points",
                          fontsize=7.5, va="center")  # fmt: skip
    for height, value in ((0, low), (1, high)):
        axes.annotate(f"{value:.4g}", (len(shown), height), xytext=(3, 0),
                      textcoords="offset points", fontsize=7.5, va="center")  # fmt: skip
    axes.set_xticks(range(len(shown) + 1), [*shown, metric.label], rotation=30, ha="right",
                    rotation_mode="anchor")  # fmt: skip
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(shown) + 0.45)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=INK, alpha=0.5)
    word = "trial" if count == 1 else f"{count} trials"
    axes.plot([], [], color=VERMILLION, linewidth=2, marker="o", label=f"the best {word}")
    axes.plot([], [], color=GREY, label="the other complete trials")
    _legend(drawn, axes)
    return drawn


def _scale(trials: Sequence[FrozenTrial], name: str) -> tuple[Any, list[tuple[float, str]]]:
    """From a parameter's value to a height of 0 to 1, and the labels of that axis."""
    distribution: Any = next(t for t in trials if name in t.params).distributions[name]
    choices = _choices(distribution)
    if choices is not None:
        last = max(1, len(choices) - 1)
        return (
            lambda value: choices.index(value) / last,
            [(index / last, str(choice)) for index, choice in enumerate(choices)],
        )
    warp = math.log if distribution.log else float
    low, high = warp(distribution.low), warp(distribution.high)
    return (
        lambda value: (warp(value) - low) / (high - low or 1.0),
        [(0.0, f"{distribution.low:.4g}"), (1.0, f"{distribution.high:.4g}")],
    )


_ENDINGS = {
    "complete": BLUE,
    "pruned": GREY,
    "running": GREEN,
    "lost": VERMILLION,
    "stopped": ORANGE,
}  # anything else: PURPLE


@themed
def draw_timeline(spans: Sequence[Span], title: str) -> Figure:
    """One row per worker, one bar per attempt; losses and resumes are marked."""
    workers = sorted({s.worker for s in spans}, key=lambda w: min(_starts(spans, w)))
    start = min(span.start for span in spans)
    drawn = figure(9.6, 1.5 + 0.34 * len(workers), title)
    axes = drawn.subplots()
    labels = dict.fromkeys(span.ending for span in spans)
    for word in labels:
        colour = _ENDINGS.get(word, PURPLE)
        part = [span for span in spans if span.ending == word]
        axes.barh(
            [workers.index(span.worker) for span in part],
            [(span.end - span.start).total_seconds() / 60 for span in part],
            left=[(span.start - start).total_seconds() / 60 for span in part],
            color=colour,
            height=0.62,
            linewidth=0.3,
            edgecolor=INK,
            label=word,
        )
    for marker, colour, label, marked in (
        ("X", INK, "its worker died", [(s.worker, s.end) for s in spans if s.ending == "lost"]),
        (">", INK, "goes on with an earlier trial",
         [(s.worker, s.start) for s in spans if s.resumes]),
    ):  # fmt: skip
        if marked:
            axes.plot(
                [(at - start).total_seconds() / 60 for _, at in marked],
                [workers.index(worker) for worker, _ in marked],
                marker,
                color=colour,
                markersize=8,
                label=label,
            )
    axes.set_yticks(range(len(workers)), workers, fontsize=8)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("minutes since the first trial began")
    _legend(drawn, axes)
    return drawn


def _starts(spans: Sequence[Span], worker: str) -> list[datetime]:
    return [span.start for span in spans if span.worker == worker]


@themed
def draw_audit(
    audited: Sequence[AuditedTrial], threshold: float, metric: Metric, title: str
) -> Figure:
    """Each audited trial from the value at which it would have been pruned to its final one.

    Args:
        threshold: the best value of a trial that was not audited.
    """
    done = [one for one in audited if one.final is not None]
    drawn = figure(7.2, 1.6 + 0.28 * len(done), title)
    axes = drawn.subplots()
    rows = range(len(done))
    early = [metric.unit * one.value for one in done]
    final = [metric.unit * float(one.final or 0.0) for one in done]
    axes.hlines(rows, early, final, color=GREY, linewidth=1.2)
    axes.plot(early, rows, "x", color=GREY, label="when it would have been pruned")
    axes.plot(final, rows, "o", color=BLUE, label="at its end")
    axes.axvline(metric.unit * threshold, color=VERMILLION, linestyle="--",
                 label="best trial that was not audited")  # fmt: skip
    axes.set_yticks(range(len(done)), [f"trial {one.number}, step {one.step}" for one in done])
    axes.set_xlabel(metric.label)
    axes.grid(axis="y", visible=False)
    _legend(drawn, axes)
    return drawn
