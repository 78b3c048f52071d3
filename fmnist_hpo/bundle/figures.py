"""A bundle's figures as PNG bytes: learning curves, confusion matrix, sheet of predictions.

The figures are Matplotlib's figure objects: pyplot, its windows and its global state are not used.
The colours are Okabe and Ito's, which colour-blind people can tell apart, and nothing is shown by
colour alone.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Sample",
    "choose_samples",
    "confusion_size",
    "draw_confusion",
    "draw_curves",
    "draw_folds",
    "draw_samples",
    "plot_confusion",
]

BLUE, VERMILLION = "#0072B2", "#D55E00"
INK = "#17191d"
#: Headings on white: the hues above, dark enough for WCAG's contrast of 4.5.
DARK_VERMILLION, DARK_GREEN = "#a84a00", "#00735a"
DOTS_PER_INCH = 150
NUMBERED_CLASSES = 20  # with more classes the numbers in the cells would not be legible
SHEET_COLUMNS = 8  # pictures in a row of the sheet
SHEET_ROWS = 2  # of right, of wrong and of unsure predictions each
# Of the sheet, in inches.
_TITLE, _HEADING = 0.4, 0.35
_PICTURE, _WORDS = 1.15, 0.4
_CELL_WIDTH, _CELL_HEIGHT = _PICTURE + 0.2, _PICTURE + _WORDS + 0.1

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of the sheet of predictions."""

    pixels: NDArray[np.uint8]  # (rows, columns)
    truth: str
    predicted: str
    confidence: float | None  # probability of the predicted class; None: the model gives none
    unsure: bool = False  # whether it is shown for its low confidence

    @property
    def right(self) -> bool:
        """Whether the prediction is the truth."""
        return self.truth == self.predicted


def _as_written(draw: F) -> F:
    """Let a function draw names as they are written: a dollar sign begins no formula."""

    @wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        import matplotlib as mpl

        with mpl.rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return cast(F, wrapper)


@_as_written
def draw_curves(
    curves: Mapping[str, Sequence[float]], title: str, *, report_every: float = 1.0
) -> bytes:
    """Loss and accuracy over the epochs, side by side.

    Args:
        curves: train_loss, train_accuracy and, where there was a validation part, val_loss and
            val_accuracy: one value per step each, accuracies 0 to 1.
        report_every: epochs in a step.
    """
    figure = _figure(9.0, 3.8, title)
    loss, accuracy = figure.subplots(1, 2)
    _draw_pair(loss, curves, "loss", 1, report_every)
    loss.set(title="Loss", ylabel="cross-entropy (nats per image)")
    _draw_pair(accuracy, curves, "accuracy", 100, report_every)
    accuracy.set(title="Accuracy", ylabel="accuracy (%)")
    return _png(figure)


@_as_written
def draw_folds(curves: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Training and validation accuracy of each fold, and their means as lines.

    Args:
        curves: fold_score and fold_train_score: one accuracy per fold each, 0 to 1.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.0, 3.8, title)
    axes = figure.subplots()
    for name, label, colour, marker in (
        ("fold_train_score", "training", BLUE, "o"),
        ("fold_score", "validation", VERMILLION, "s"),
    ):
        scores = [100 * score for score in curves[name]]
        mean = sum(scores) / len(scores)
        axes.plot(
            range(1, len(scores) + 1),
            scores,
            marker,
            color=colour,
            label=f"{label}, mean {mean:.2f} %",
        )
        axes.axhline(mean, color=colour, linewidth=1, linestyle="--", alpha=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(title="Accuracy of each fold", xlabel="fold", ylabel="accuracy (%)")
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")
    return _png(figure)


def _draw_pair(
    axes: "Axes",
    curves: Mapping[str, Sequence[float]],
    name: str,
    unit: float,
    report_every: float,
) -> None:
    from matplotlib.ticker import MaxNLocator

    for part, label, colour, line, marker in (
        ("train", "training (running, as it learns)", BLUE, "-", "o"),
        ("val", "validation", VERMILLION, "--", "s"),
    ):
        values = curves.get(f"{part}_{name}")
        if values:
            epochs = [report_every * step for step in range(1, len(values) + 1)]
            scaled = [unit * value for value in values]
            axes.plot(
                epochs, scaled, line, color=colour, marker=marker, markersize=3.5, label=label
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


@_as_written
def draw_confusion(metrics: Metrics, title: str) -> bytes:
    """The confusion matrix as PNG: counts in the cells, shares of the true class as shades."""
    size = confusion_size(metrics)
    figure = _figure(size + 1.6, size, title)
    plot_confusion(figure, metrics)
    return _png(figure)


def confusion_size(metrics: Metrics) -> float:
    """Inches that a legible confusion matrix takes in each direction."""
    return min(5.0 + 0.35 * len(metrics.classes), 20.0)


def plot_confusion(figure: "Figure", metrics: Metrics) -> None:
    """See `draw_confusion`."""
    from matplotlib.colors import PowerNorm

    counts = np.array(metrics.confusion)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes = figure.subplots()
    axes.grid(visible=False)
    # the square root keeps a confusion of 1 % visible beside a diagonal of 95 %
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
    ticks = range(len(metrics.classes))
    axes.set_xticks(ticks, metrics.classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, metrics.classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(metrics.classes) <= NUMBERED_CLASSES:
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 40 else "black"
                text = f"{counts[row, column]}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    bar.set_label("share of the true class (%)")


def choose_samples(
    images: NDArray[np.uint8],
    predictions: Predictions,
    classes: tuple[str, ...],
    *,
    has_probabilities: bool,
) -> tuple[Sample, ...]:
    """Choose confident right predictions at random (seed 0), the surest wrong ones, the least sure.

    Args:
        images: (n, rows, columns), 0 to 255, those of the predictions.
        has_probabilities: False if the model's shares only rank the images.
    """
    predicted, confidence, right = predictions.predicted, predictions.confidence, predictions.right
    count = SHEET_ROWS * SHEET_COLUMNS
    by_confidence = np.argsort(confidence, kind="stable")
    sure = np.flatnonzero(right & (confidence >= np.median(confidence)))
    wrong = by_confidence[::-1][~right[by_confidence[::-1]]][:count]
    unsure = by_confidence[~np.isin(by_confidence, wrong)][:count]
    return tuple(
        Sample(
            pixels=np.array(images[index]),
            truth=classes[predictions.labels[index]],
            predicted=classes[predicted[index]],
            confidence=float(confidence[index]) if has_probabilities else None,
            unsure=unsure_one,
        )
        for chosen, unsure_one in (
            (np.random.default_rng(0).permutation(sure)[:count], False),
            (wrong, False),
            (unsure, True),
        )
        for index in chosen
    )


@_as_written
def draw_samples(samples: Sequence[Sample], title: str) -> bytes:
    """The sheet of predictions as PNG: right, wrong and unsure ones, each with its confidence.

    A wrong prediction also shows the true class. The background is white: no colour of text has a
    contrast of 4.5 with both a light and a dark page.

    Args:
        samples: drawn in this order within each group.
    """
    bands = [
        (heading, colour, band)
        for heading, colour, band in (
            ("Right and sure, drawn at random", BLUE, [s for s in samples if _band(s) == "right"]),
            (
                "Wrong, the surest first",
                DARK_VERMILLION,
                [s for s in samples if _band(s) == "wrong"],
            ),
            (
                "Unsure, the least sure first",
                DARK_GREEN,
                [s for s in samples if _band(s) == "unsure"],
            ),
        )
        if band
    ]
    rows = sum(-(-len(band) // SHEET_COLUMNS) for _, _, band in bands)
    width = SHEET_COLUMNS * _CELL_WIDTH
    height = _TITLE + len(bands) * _HEADING + rows * _CELL_HEIGHT
    figure = _figure(width, height)
    # One pair of axes, in inches from the upper left corner: one for each picture takes seconds.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(width / 2, _TITLE / 2, title, color=INK, ha="center", va="center", fontsize=12)
    top = _TITLE
    for heading, colour, band in bands:
        axes.text(width / 2, top + _HEADING / 2, heading, color=colour, ha="center", va="center")
        top += _HEADING
        for first in range(0, len(band), SHEET_COLUMNS):
            for column, sample in enumerate(band[first : first + SHEET_COLUMNS]):
                _plot_sample(axes, (column + 0.5) * _CELL_WIDTH, top, sample)
            top += _CELL_HEIGHT
    return _png(figure, sheet=True)


def _plot_sample(axes: "Axes", centre: float, top: float, sample: Sample) -> None:
    """Draw two lines of text and, below them, the picture, scaled to fit its square."""
    caption = sample.predicted
    if sample.confidence is not None:
        caption += f" {100 * sample.confidence:.0f} %"
    if not sample.right:
        caption += f"\ntrue: {sample.truth}"
    at = (centre, top + _WORDS - 0.05)
    axes.text(*at, caption, color=INK, fontsize=7.5, ha="center", va="bottom")
    rows, columns = sample.pixels.shape
    half_width, half_height = (_PICTURE / 2 * side / max(rows, columns) for side in (columns, rows))
    middle = top + _WORDS + _PICTURE / 2
    axes.imshow(
        sample.pixels,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(
            *(centre - half_width, centre + half_width),
            *(middle + half_height, middle - half_height),
        ),
        aspect="auto",
        interpolation="nearest",
    )


def _band(sample: Sample) -> str:
    if sample.unsure:
        return "unsure"
    return "right" if sample.right else "wrong"


def _figure(width: float, height: float, title: str | None = None) -> "Figure":
    """A figure of this size in inches; with a title, the axes are laid out below it."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height), layout="constrained" if title else None, dpi=DOTS_PER_INCH
    )
    if title:
        figure.suptitle(title)
    return figure


def _png(figure: "Figure", *, sheet: bool = False) -> bytes:
    """PNG on white of a figure, cropped, or of a sheet, as it is."""
    data = io.BytesIO()
    # "tight": constrained layout alone cuts a label off beside axes of fixed aspect
    box = None if sheet else "tight"
    figure.savefig(data, format="png", bbox_inches=box, metadata={"Software": None})
    return data.getvalue()
