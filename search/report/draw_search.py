"""The figures of how a search went: history, timeline, the pruner's audit."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search.report.axes import RASTER_ABOVE, Metric, focus, legend, legible
from search.report.facts import AuditedTrial, Point, Span, running_best
from search.report.theme import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION, figure, themed
from search.text import clock

__all__ = ["draw_audit", "draw_history", "draw_timeline"]


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
                if arm[-1] is not best[-1][0]:
                    best.append((arm[-1], best[-1][1]))  # it still is when a pruned one ends
                axes.step(
                    [where(p) for p, _ in best],
                    [metric.place(value) for _, value in best],
                    color=colour,
                    linestyle="--" if control else "-",
                    where="post",
                    label=f"best so far{' (control)' if control else ''}",
                )
        for colour, marker, name, part in (
            (GREY, "x", "pruned, last value",
             [p for p in points if not p.complete and not p.infeasible]),
            (PURPLE, "s", "breaks a constraint", [p for p in points if p.infeasible]),
        ):  # fmt: skip
            _points(axes, [where(p) for p in part], part, metric, marker, colour, name)
        axes.set_xlabel(label)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel(metric.label)
    focus(left, [metric.place(p.value) for p in points], metric)
    legend(drawn, left)
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
            [metric.place(p.value) for p in points],
            marker,
            color=colour,
            label=label,
            alpha=0.85,
            rasterized=len(points) > RASTER_ABOVE,
        )


_ENDINGS = {
    "complete": BLUE,
    "pruned": GREY,
    "running": GREEN,
    "lost": VERMILLION,
    "stopped": ORANGE,
}  # anything else: PURPLE


ROWS_SHOWN = 60  # each with its name; of more the figure is as high and the rows are narrower
PAUSE_SHOWN = timedelta(seconds=20)  # the width of a longer pause in which nobody worked


@themed
def draw_timeline(spans: Sequence[Span], title: str) -> Figure:
    """One row per worker, one bar per attempt; lost and resumed attempts are marked."""
    workers = sorted({s.worker for s in spans}, key=lambda w: min(_starts(spans, w)))
    pauses = _pauses(spans)
    start = min(span.start for span in spans)

    def place(moment: datetime) -> float:
        """Minutes from the first start, without the parts of pauses that are cut out."""
        cut = sum(
            (end - begun - PAUSE_SHOWN for begun, end in pauses if end <= moment), timedelta()
        )
        return (moment - start - cut).total_seconds() / 60

    drawn = figure(9.6, 1.5 + 0.34 * min(len(workers), ROWS_SHOWN), title)
    axes = drawn.subplots()
    labels = dict.fromkeys(span.ending for span in spans)
    for word in labels:
        colour = _ENDINGS.get(word, PURPLE)
        part = [span for span in spans if span.ending == word]
        axes.barh(
            [workers.index(span.worker) for span in part],
            [place(span.end) - place(span.start) for span in part],
            left=[place(span.start) for span in part],
            color=colour,
            height=0.62,
            linewidth=0.3,
            edgecolor=INK,
            label=word,
        )
    for marker, colour, label, marked in (
        ("X", INK, "its worker died", [(s.worker, s.end) for s in spans if s.ending == "lost"]),
        (">", INK, "goes on with an earlier attempt",
         [(s.worker, s.start) for s in spans if s.resumes]),
    ):  # fmt: skip
        if marked:
            axes.plot(
                [place(at) for _, at in marked],
                [workers.index(worker) for worker, _ in marked],
                marker,
                color=colour,
                markersize=8,
                label=label,
            )
    _label_rows(axes, [legible(worker) for worker in workers], "workers", fontsize=8)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    for begun, end in pauses:
        axes.axvspan(place(begun), place(end), color=GREY, alpha=0.25, linewidth=0)
        axes.annotate(
            f"nobody at work for {clock((end - begun).total_seconds())}",
            ((place(begun) + place(end)) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=7.5,
        )
    axes.set_xlabel(f"minutes since the first trial began{', less the pauses' if pauses else ''}")
    legend(drawn, axes)
    return drawn


def _label_rows(axes: Axes, texts: Sequence[str], what: str, **look: Any) -> None:
    """Name the rows of a figure; of too many to be named it says what they are."""
    if len(texts) <= ROWS_SHOWN:
        axes.set_yticks(range(len(texts)), texts, **look)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(texts):,} {what}")


def _pauses(spans: Sequence[Span]) -> list[tuple[datetime, datetime]]:
    """The pauses that are longer than all work: drawn to scale they would squeeze the bars."""
    found, end, busy = [], min(span.start for span in spans), timedelta()
    for span in sorted(spans, key=lambda one: one.start):
        if span.start > end:
            found.append((end, span.start))
        busy += max(timedelta(), span.end - max(span.start, end))
        end = max(end, span.end)
    return [(begun, over) for begun, over in found if over - begun > max(busy, PAUSE_SHOWN)]


def _starts(spans: Sequence[Span], worker: str) -> list[datetime]:
    return [span.start for span in spans if span.worker == worker]


@themed
def draw_audit(
    audited: Sequence[AuditedTrial], threshold: float, metric: Metric, title: str
) -> Figure:
    """A line for each audited trial, from its value at the pruning step to its final value.

    Args:
        threshold: the best value among the trials that were not audited.
    """
    done = [one for one in audited if one.final is not None]
    drawn = figure(7.2, 1.6 + 0.28 * min(len(done), ROWS_SHOWN), title)
    axes = drawn.subplots()
    rows = range(len(done))
    early = [metric.place(one.value) for one in done]
    final = [metric.place(float(one.final or 0.0)) for one in done]
    axes.hlines(rows, early, final, color=GREY, linewidth=1.2)
    axes.plot(early, rows, "x", color=GREY, label="when it would have been pruned")
    axes.plot(final, rows, "o", color=BLUE, label="at its end")
    axes.axvline(metric.place(threshold), color=VERMILLION, linestyle="--",
                 label="best trial that was not audited")  # fmt: skip
    _label_rows(axes, [f"trial {one.number}, step {one.step}" for one in done], "audited trials")
    axes.set_xlabel(metric.label)
    axes.grid(axis="y", visible=False)
    legend(drawn, axes)
    return drawn
