"""Curves of a study as observations of the process, and its predictions in units of the metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.process import Array, Groups, Points, Posterior, Rows, fit
from search.sampling.freeze_thaw.records import Curve, grid

__all__ = ["Model", "Scale"]


@dataclass(frozen=True)
class Settings:
    start: int = 10
    candidates: int = 200
    near: int = 0
    clip: float = 0.5
    fitted: int = 200
    rounds: int = 15
    most: int = 600
    random: float = 0.05
    threshold: str = "observed"
    shape: str = "linear"
    cover: float = 0.0


SETTINGS = Settings()


@dataclass(frozen=True)
class Scale:
    """Values of the metric in the units of the process: more is better, variance about 1.

    Attributes:
        sign: 1 where the metric is maximized, -1 where it is minimized.
        floor: a worse value counts as this one. Units of the metric times `sign`.
        middle: what becomes 0; likewise.
        spread: what becomes 1; likewise.
    """

    sign: float
    floor: float
    middle: float
    spread: float

    def to(self, values: Array) -> Array:
        """Values of the metric in the units of the process."""
        return (np.maximum(self.sign * values, self.floor) - self.middle) / self.spread

    def back(self, y: float) -> float:
        """A value of the process in units of the metric."""
        return float(self.sign * (y * self.spread + self.middle))


class Model:
    """The process fitted to the curves of a study.

    Args:
        curves: sorted by lineage, at least one of them with a finite value.
        last: the last step of any curve or candidate.
    """

    def __init__(
        self,
        encoding: Encoding,
        curves: Sequence[Curve],
        direction: str,
        last: int,
        settings: Settings = SETTINGS,
    ) -> None:
        self._log_last = np.log(max(last, 2))
        self.x = encode_all(encoding, [c.params for c in curves])
        sign = 1.0 if direction == "maximize" else -1.0
        rows: list[int] = []
        steps: list[int] = []
        values: list[float] = []
        for row, curve in enumerate(curves):
            finite = {s: v for s, v in curve.values.items() if np.isfinite(v)}
            kept = sorted(finite.keys() & {*grid(curve.last_step), max(finite, default=0)})
            rows += [row] * len(kept)
            steps += kept
            values += [finite[step] for step in kept]
        worst = sign * min(sign * v for v in values)
        for row, curve in enumerate(curves):
            if curve.state == "ended":
                rows.append(row)
                steps.append(curve.last_step)
                values.append(worst)
        good = sign * np.array(values)
        floor = float(np.quantile(good, settings.clip))
        good = np.maximum(good, floor)
        self.scale = Scale(sign, floor, float(good.mean()), float(good.std()) or 1.0)
        y = self.scale.to(np.array(values))
        points = self._points(self.x, np.array(rows), steps)
        part = _few(len(y), settings.most)
        points, y = Points(points.x, points.times, points.curve[part], points.time[part]), y[part]
        groups = Groups(encoding.groups, encoding.count)
        part = _few(len(y), settings.fitted)
        theta = fit(points.part(part), y[part], groups, rounds=settings.rounds)
        self.posterior = Posterior(points, y, theta, groups)
        self.points, self.y = points, y
        running = [row for row, curve in enumerate(curves) if curve.state == "running"]
        if running:
            ends = [curves[row].until or curves[row].last_step for row in running]
            mean, _ = self.predict(self.x[running], ends, np.array(running))
            rows_all = np.r_[points.curve, running]
            t = np.r_[points.times[points.time], np.log(ends) / self._log_last]
            times, time = np.unique(t, return_inverse=True)
            self.points = Points(self.x, times, rows_all, time)
            self.y = np.r_[y, mean]
            self.posterior = Posterior(self.points, self.y, theta, groups)

    def _points(self, x: Array, rows: Rows, steps: Sequence[int]) -> Points:
        times, time = np.unique(
            np.log(np.array(steps, dtype=float)) / self._log_last, return_inverse=True
        )
        return Points(x, times, rows, time)

    def predict(self, x: Array, steps: Sequence[int], curves: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation, (m,) each, in the units of the process.

        Args:
            x: (m, d) encoded configurations.
            steps: m steps.
            curves: (m,) the curves' positions among the observed ones, -1 for new ones.
        """
        return self.posterior(self._points(x, np.arange(len(x)), steps), curves)

    def seen(self) -> Array:
        """Posterior mean at the observed places."""
        return self.posterior(self.points, self.points.curve)[0]


def encode_all(encoding: Encoding, params: Sequence[Mapping[str, Any]]) -> Array:
    """Configurations as vectors, (n, d)."""
    return np.array([encoding.encode(p) for p in params]).reshape(len(params), encoding.size)


def _few(n: int, most: int) -> Rows:
    """At most `most` of n positions, the same ones each time."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))
