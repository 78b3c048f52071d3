"""The figures of a report that know classes and models."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import NullLocator

from fmnist_hpo.bundle.figures import confusion_size, plot_confusion
from fmnist_hpo.metrics import Metrics, calibration_bins
from fmnist_hpo.report.models import Model
from search.report.axes import log_ticks
from search.report.theme import BLUE, GREEN, GREY, INK, SERIES, VERMILLION, figure, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fmnist_hpo.bundle.predictions import Predictions

__all__ = ["draw_classes", "draw_comparison", "draw_confusion", "draw_overfitting",
           "draw_reliability"]  # fmt: skip

MARKERS = "osD^vPX*"


@themed
def draw_confusion(metrics: Metrics, title: str) -> "Figure":
    """The confusion matrix: counts in the cells, shares of the true class as shades."""
    size = confusion_size(metrics)
    drawn = figure(size + 1.6, size, title)
    plot_confusion(drawn, metrics)
    return drawn


@themed
def draw_classes(metrics: Metrics, title: str) -> "Figure":
    """Precision, recall and F1 of each class, the hardest class on top."""
    ranked = sorted(metrics.per_class, key=lambda one: one.f1, reverse=True)
    drawn = figure(7.6, 1.2 + 0.36 * len(ranked), title)
    axes = drawn.subplots()
    rows = range(len(ranked))
    lows = [100 * min(one.precision, one.recall, one.f1) for one in ranked]
    highs = [100 * max(one.precision, one.recall, one.f1) for one in ranked]
    axes.hlines(rows, lows, highs, color=GREY, linewidth=1.2)
    for name, colour, marker in (
        ("precision", BLUE, ">"),
        ("recall", VERMILLION, "<"),
        ("f1", INK, "|"),
    ):
        values = [100 * getattr(one, name) for one in ranked]
        size = 12 if marker == "|" else 7
        label = "F1" if name == "f1" else name
        axes.plot(values, rows, marker, color=colour, label=label, markersize=size)
    axes.set_yticks(rows, [one.name for one in ranked])
    axes.set_xlabel("%")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn


@themed
def draw_reliability(predictions: "Predictions", error: float, title: str) -> "Figure":
    """Accuracy over confidence, and how many images have which confidence.

    Args:
        error: expected calibration error, 0 to 1.
    """
    counts, confident, accurate = calibration_bins(predictions.confidence, predictions.right)
    some = counts > 0
    drawn = figure(5.4, 5.4, title)
    upper, lower = drawn.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 100], [0, 100], "--", color=GREY, label="perfectly calibrated")
    upper.plot(100 * confident[some], 100 * accurate[some], "o-", color=BLUE, label="this model")
    upper.set_ylabel("accuracy of these images (%)")
    upper.set_title(f"expected calibration error {100 * error:.2f} %", fontsize=10)
    upper.legend(loc="lower right")  # a curve seldom passes there
    width = 100 / len(counts)
    lower.bar([width * (i + 0.5) for i in range(len(counts))], counts, 0.9 * width, color=BLUE)
    lower.set_yscale("symlog", linthresh=1)
    powers = [10**k for k in range(len(str(int(counts.max()))))]
    ticks = [0, *powers[:: 1 + len(powers) // 4]]  # so many that their labels fit
    lower.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set(xlabel="confidence: probability of the predicted class (%)", ylabel="images")
    lower.set_xlim(0, 100)
    return drawn


@themed
def draw_comparison(models: Sequence[Model], title: str) -> "Figure":
    """Accuracy over training time, over parameters and over latency; one mark per model."""
    drawn = figure(10.2, 4.0, title)
    panels = drawn.subplots(1, 3, sharey=True)
    costs: tuple[tuple[str, Callable[[Model], float | None]], ...] = (
        ("training time (s)", lambda model: model.training_seconds),
        ("parameters", lambda model: model.row.parameters),
        ("latency of one image (ms)", lambda model: model.latency_ms),
    )
    for axes, (label, cost) in zip(panels, costs, strict=True):
        for index, model in enumerate(models):
            x = cost(model)
            if x is None:
                continue
            low, high = model.interval
            value = model.accuracy
            axes.errorbar(
                [x],
                [100 * value],
                yerr=[[100 * (value - low)], [100 * (high - value)]],
                fmt=MARKERS[index % len(MARKERS)],
                color=SERIES[index % len(SERIES)],
                capsize=3,
                markersize=7,
                label=model.study,
            )
        axes.set_xlabel(label)
        if axes.lines:
            _round_log_ticks(axes)
        else:
            axes.annotate("not known", (0.5, 0.5), xycoords="axes fraction", ha="center")
    panels[0].set_ylabel("accuracy (%), 95 % interval")
    handles, labels = panels[0].get_legend_handles_labels()  # every model has a training time
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    return drawn


def _round_log_ticks(axes: "Axes") -> None:
    """A log axis of a decade at least, as round numbers are few within less; no powers of ten."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    spare = max(1.0, math.sqrt(10 * low / high))
    axes.set_xlim(low / spare, high * spare)
    ticks = log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


@themed
def draw_overfitting(models: Sequence[Model], title: str) -> "Figure":
    """Training and validation accuracy of each model, and the gap between them."""
    shown = [model for model in models if model.fit is not None]
    drawn = figure(7.6, 1.4 + 0.4 * len(shown), title)
    axes = drawn.subplots()
    for row, model in enumerate(shown):
        train, validation = model.fit or (0.0, 0.0)
        axes.plot([100 * validation, 100 * train], [row, row], color=GREY, linewidth=1.4)
        axes.plot(100 * train, row, "s", color=VERMILLION, label=None if row else "training")
        axes.plot(100 * validation, row, "o", color=GREEN, label=None if row else "validation")
        axes.annotate(
            f"{100 * (train - validation):+.1f}",
            (50 * (train + validation), row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(shown)), [model.study for model in shown])
    axes.set_ylim(len(shown) - 0.4, -0.7)
    axes.set_xlabel("accuracy (%); the number is training minus validation, in percentage points")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn
