"""The curves of a study as observations of the process, and predictions in units of the metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.process import (
    A_ALL,
    NOISE,
    Array,
    Groups,
    Points,
    Posterior,
    Rows,
    fit,
    prior,
)
from search.sampling.freeze_thaw.records import Curve, grid

__all__ = ["Model", "Scale", "seconds_per_step"]

CLIPPED = 0.1  # share of the observations that count as no worse than the best of them
UPPER = 0.75  # the quantile of the observations whose distance from the best is the unit
FINEST = 1e-3  # least unit, as a share of the distance between best and floor
EQUAL = 1e-12  # values that differ by less, relative to the largest of them, are the same
LARGEST = 1e300  # magnitude of an observation: distances between larger ones overflow
FITTED = 200  # observations that the hyperparameters are fitted to, at most
ROUNDS = 15  # iterations of that fit, at most
HIDING = 0.15  # from this noise on, with observations of variance 1, all decisions are draws
MOST = 600  # observations that predictions are made from, at most


@dataclass(frozen=True)
class Scale:
    """Values of the metric in the units of the process: more is better, mean 0 and variance 1.

    y = -log(1 + (best - value) / unit), then shifted and scaled. Differences between good values
    count for more than those between bad ones, and hopeless ones count alike. Nothing but ranks and
    ratios of differences enters, so any metric will do: shares, losses, percentages.

    Attributes:
        sign: 1 where the metric is maximized, -1 where it is minimized.
        best, floor: the best value observed, and the one that all worse ones count as; both are
            values of the metric times `sign`.
        unit: a distance from the best that matters, in units of the metric.
        middle, spread: mean and standard deviation of the logarithms.
    """

    sign: float
    best: float
    floor: float
    unit: float
    middle: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, values: Array, direction: str) -> "Scale":
        """The scale for observed values, (n,), n > 0."""
        sign = 1.0 if direction == "maximize" else -1.0
        good = sign * np.clip(values, -LARGEST, LARGEST)
        best, floor, upper = (float(q) for q in np.quantile(good, [1.0, CLIPPED, UPPER]))
        if best - floor <= EQUAL * np.abs(good).max():
            floor = best  # all the same but for rounding
        unit = max(best - upper, (best - floor) * FINEST) or 1.0
        y = cls(sign, best, floor, unit).to(values)
        return cls(sign, best, floor, unit, float(y.mean()), float(y.std()) or 1.0)

    def to(self, values: Array) -> Array:
        """Values of the metric in the units of the process."""
        worse = self.best - np.maximum(self.sign * values, self.floor)
        y: Array = (-np.log1p(np.maximum(worse, 0.0) / self.unit) - self.middle) / self.spread
        return y

    def back(self, y: Array) -> Array:
        """Values of the process in units of the metric, none of them worse than the floor."""
        most = np.log1p((self.best - self.floor) / self.unit)
        worse = np.minimum(-(y * self.spread + self.middle), most)
        values: Array = self.sign * (self.best - self.unit * np.expm1(worse))
        return values

    def deviation(self, mean: Array, deviation: Array) -> Array:
        """A standard deviation around a mean, both of the process, in units of the metric."""
        half: Array = np.abs(self.back(mean + deviation) - self.back(mean - deviation)) / 2.0
        return half


class Model:
    """The process fitted to the curves of a study.

    A curve counts at the steps of the grid and at its last one. One that ended badly counts as the
    worst value observed at its last step. One that runs counts with its predicted value at the step
    where it will pause, so that workers do not choose the same.

    Args:
        curves: sorted by lineage; at least one of them has a finite value.

    Attributes:
        scale: between the metric and the process.
        x: (c, d) the curves' encoded configurations.
    """

    def __init__(self, encoding: Encoding, curves: Sequence[Curve], direction: str) -> None:
        self._lasts = np.array([curve.last_step for curve in curves])
        self._log_last = np.log(max(self._lasts.max(), 2))
        self.x = encoding.encode([curve.params for curve in curves])
        rows, steps, values = _observations(curves, direction)
        self.scale = Scale.of(values, direction)
        y = self.scale.to(values)
        points = self._points(self.x, rows, steps)
        groups = Groups(encoding.groups, encoding.count)
        part = np.arange(len(y))
        if len(y) > FITTED:  # a random part, the same one each time
            part = np.sort(np.random.default_rng(0).choice(len(y), FITTED, replace=False))
        theta = fit(points.part(part), y[part], groups, rounds=ROUNDS)
        kept = _latest(rows, y)
        self._y, self._seen = y[kept], self._points(self.x, rows[kept], steps[kept])
        self._posterior = Posterior(self._seen, self._y, theta, groups)
        running = np.flatnonzero([curve.state == "running" for curve in curves])
        if len(running):
            ends = np.array([c.until or c.last_step for c in curves if c.state == "running"])
            mean, _ = self.predict(self.x[running], ends, running)
            rows, steps = np.r_[rows[kept], running], np.r_[steps[kept], ends]
            self._y, self._seen = np.r_[self._y, mean], self._points(self.x, rows, steps)
            self._posterior = Posterior(self._seen, self._y, theta, groups)

    def _points(self, x: Array, rows: Rows, steps: Rows) -> Points:
        times, time = np.unique(np.log(steps) / self._log_last, return_inverse=True)
        return Points(x, times, rows, time)

    def predict(self, x: Array, steps: Rows, curves: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation without noise, (m,) each, in the units of the process.

        Args:
            x: (m, d) encoded configurations.
            steps: (m,) of them.
            curves: (m,) positions of their curves among the observed ones, -1 for new ones.
        """
        return self._posterior(self._points(x, np.arange(len(x)), steps), curves)

    def draw(self, x: Array, steps: Rows, curves: Rows, rng: np.random.Generator) -> Array:
        """Values without noise, (m,), of one draw; arguments as in `predict`."""
        return self._posterior.draw(self._points(x, np.arange(len(x)), steps), curves, rng)

    @property
    def doubt(self) -> float:
        """The share of decisions that follow a draw, 0 to 1: more under more noise."""
        return min(1.0, (self._posterior.noise / HIDING) ** 2)

    def finals(self) -> tuple[Array, Array]:
        """Mean and deviation, (c,) each, of the curves' values at their last steps, as above."""
        return self.predict(self.x, self._lasts, np.arange(len(self.x)))


def _observations(curves: Sequence[Curve], direction: str) -> tuple[Rows, Rows, Array]:
    """Positions of curves, steps and values, (n,) each."""
    found: list[tuple[int, int, float]] = []
    for row, curve in enumerate(curves):
        finite = {step: value for step, value in curve.values.items() if np.isfinite(value)}
        kept = {*grid(curve.last_step), max(finite, default=0)}
        found += [(row, step, finite[step]) for step in sorted(finite) if step in kept]
    observed = [value for _, _, value in found]
    worst = min(observed) if direction == "maximize" else max(observed)
    for row, curve in enumerate(curves):
        if curve.state == "ended":
            found = [one for one in found if one[:2] != (row, curve.last_step)]
            found.append((row, curve.last_step, worst))
    found.sort()
    rows, steps, values = zip(*found, strict=True)
    return np.array(rows, dtype=np.intp), np.array(steps, dtype=np.intp), np.array(values)


def _latest(rows: Rows, y: Array) -> Rows:
    """Positions of at most MOST observations: first the last ones of each curve, the best first."""
    if len(y) <= MOST:
        return np.arange(len(y))
    ends = np.searchsorted(rows, rows, side="right")
    age = ends - np.arange(len(y))  # 1 for the last one of a curve
    return np.sort(np.lexsort((-y, age))[:MOST])


def seconds_per_step(encoding: Encoding, curves: Sequence[Curve], x: Array) -> Array:
    """The seconds that a step of some configurations takes; zeros if nothing is known of them.

    Their logarithms are the mean of a Gaussian process over the configurations whose curves know
    it.

    Args:
        x: (m, d) encoded configurations.

    Returns:
        (m,)
    """
    known: Mapping[int, float] = {
        row: curve.seconds_per_step
        for row, curve in enumerate(curves)
        if curve.seconds_per_step is not None and curve.seconds_per_step > 0.0
    }
    if not known:
        return np.zeros(len(x))
    log = np.log(np.array(list(known.values())))
    spread = max(float(log.std()), 1e-3)
    groups = Groups(encoding.groups, encoding.count)
    theta, _ = prior(groups.count)
    theta[: groups.count] = 0.0  # length scales of the whole range: times are smooth
    theta[groups.count + A_ALL] = 0.0
    theta[groups.count + NOISE] = np.log(0.15)
    time = np.zeros(1)  # the same step for all
    seen = Points(
        encoding.encode([curves[row].params for row in known]),
        time,
        np.arange(len(known)),
        np.zeros(len(known), dtype=np.intp),
    )
    posterior = Posterior(seen, (log - log.mean()) / spread, theta, groups)
    wanted = Points(x, time, np.arange(len(x)), np.zeros(len(x), dtype=np.intp))
    seconds: Array = np.exp(log.mean() + posterior(wanted, np.full(len(x), -1))[0] * spread)
    return seconds
