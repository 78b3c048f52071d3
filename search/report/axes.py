"""What the figures of a study have in common: the axis of its value, outliers, the legend."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search.report.curves import Pair
from search.text import figure, percent, printable

__all__ = ["RASTER_ABOVE", "Metric", "focus", "legend", "legible", "log_ticks", "some"]

RASTER_ABOVE = 1500  # points; so many are kept as a picture, or the page would grow with them
LABEL_CHARACTERS = 32
LARGEST = 1e300  # magnitude on an axis: the room between larger values overflows
_NO_XML = re.compile("[\ufffe\uffff]")  # besides control characters
_MORE_LINES = str.maketrans({"\n": "\\n", "\t": "\\t"})


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A study's value on an axis.

    percent: names of the metrics and curves that are shown as a percentage (`Study.percent`).
    """

    name: str
    direction: str
    percent: tuple[str, ...] = ()

    @property
    def unit(self) -> float:
        """What a value is multiplied with on the axis."""
        return 100.0 if self.name in self.percent else 1.0

    def place(self, value: float) -> float:
        """Where a value stands on the axis: in its unit, and within what Matplotlib can draw."""
        return max(-LARGEST, min(LARGEST, self.unit * value))

    @property
    def words(self) -> str:
        """The name in words."""
        return self.name.replace("val_", "validation_").replace("_", " ")

    @property
    def label(self) -> str:
        """The axis' label: the name in words, and its unit."""
        words = legible(self.words)
        return f"{words} (%)" if self.unit == 100 else words

    def show(self, value: float) -> str:
        """A value with its unit."""
        return percent(value) if self.unit == 100 else figure(value)

    def show_difference(self, value: float) -> str:
        """The difference of two values with its unit."""
        return f"{100 * value:.2f} percentage points" if self.unit == 100 else figure(value)

    def of_pair(self, pair: Pair) -> "Metric":
        """What a pair of curves measures; a percentage where both curves are one."""
        shares = {pair.train, pair.validation} <= set(self.percent)
        return replace(self, name=pair.name, percent=(pair.name,) if shares else ())


def legible(value: object, most: int = LABEL_CHARACTERS) -> str:
    """A name or a value as a text of a figure: one line that an SVG may hold, cut in its middle.

    Args:
        most: the number of characters.
    """
    text = _NO_XML.sub("?", printable(str(value)).translate(_MORE_LINES))
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - 1 - most // 2) :]}"


def some(count: int, most: int) -> range:
    """At most so many places of the `count` that an axis has, evenly spread, to be labelled."""
    return range(0, count, max(1, -(-count // most)))


def focus(axes: Axes, values: Sequence[float], metric: Metric) -> None:
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
    upwards = metric.direction == "maximize"  # the words need room on the worse side
    below, above = (2 * pad, pad) if upwards else (pad, 2 * pad)
    axes.set_ylim(min(inside) - below, max(inside) + above)
    axes.annotate(
        f"{len(outside)} worse, outside",
        (0.99, 0.02 if upwards else 0.98),
        xycoords="axes fraction",
        ha="right",
        va="bottom" if upwards else "top",
        fontsize=8,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """At most four round numbers from low to high, both above 0; matplotlib's own may overlap."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 4 and found:
            break
        found = inside
    if not found:  # the axis is too short for them
        ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)]
        return [tick for tick in ticks if low <= tick <= high]
    return found[:: -(-len(found) // 4)]


def legend(drawn: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
