"""What coordination.py measured: a line of text for each setting, and the plot of all."""

import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Cell:
    """All measurements of one setting, in trials per second.

    A plain worker may not last: many of them on SQLite do not wait long enough for each other.
    """

    storage: str
    workers: int
    filled: int
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    plain_died: list[str] = field(default_factory=list)  # of what, once per measurement

    @property
    def ratio(self) -> float:
        """Median of ours over median of plain; NaN where no plain measurement came through."""
        if not self.plain:
            return math.nan
        return statistics.median(self.ours) / statistics.median(self.plain)

    def line(self) -> str:
        return (
            f"{self.storage:9}{self.workers:8d}{self.filled:8d}  "
            f"{_spread(self.ours):24}{_spread(self.plain):24}{self.ratio:6.2f}"
            + "".join(f"\n    plain died: {reason}" for reason in self.plain_died)
        )


def _spread(rates: list[float]) -> str:
    if not rates:
        return "-"
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def plot(cells: list[Cell], file: Path) -> None:
    """How the cost of a trial grows with the study; one panel per storage."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    titles = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
    storages = [name for name in titles if any(cell.storage == name for cell in cells)]
    crowds = sorted({cell.workers for cell in cells})
    figure, panels = plt.subplots(
        1,
        len(storages),
        figsize=(4.5 * len(storages) + 1.5, 4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, storage in zip(panels[0], storages, strict=True):
        for colour, workers in enumerate(crowds):
            row = [c for c in cells if (c.storage, c.workers) == (storage, workers)]
            for style, label, rates in (("-o", "ours", "ours"), ("--x", "plain", "plain")):
                costs = [getattr(c, rates) or [math.nan] for c in row]
                panel.plot(
                    [c.filled for c in row],
                    [1000 * workers / statistics.median(one) for one in costs],
                    style,
                    color=f"C{colour}",
                    label=f"{label}, {workers} worker{'s' * (workers > 1)}",
                )
        panel.set(title=titles[storage], xlabel="trials in the study", yscale="log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("a worker's time per trial / ms")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(file, dpi=120)
