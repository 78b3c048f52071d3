"""A Gaussian process over learning curves, with its hyperparameters fitted to the curves.

Sources: "Scaling Gaussian processes for learning curve prediction via latent Kronecker structure",
arXiv 2410.09239, for the kernel over configurations and steps; Rasmussen and Williams, "Gaussian
processes for machine learning", chapters 2 and 5, for the posterior and the gradient.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

__all__ = ["Groups", "Points", "Posterior", "fit", "prior"]

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
JITTER = 1e-6  # variance added to the diagonal, where y has variance 1


@dataclass(frozen=True)
class Points:
    """Places on curves.

    Many points share a curve and a step, so covariances are computed once for each pair of curves
    and once for each pair of times.

    Attributes:
        x: (c, d) encoded configurations, one for each curve.
        times: (u,) logarithms of steps, scaled so that the last step is at 1.
        curve: (n,) rows of `x`; points of one curve are correlated further.
        time: (n,) rows of `times`.
    """

    x: Array
    times: Array
    curve: Rows
    time: Rows

    def __len__(self) -> int:
        return len(self.curve)

    def part(self, rows: Rows) -> "Points":
        """Some of the points, without the curves that have none of them."""
        used, curve = np.unique(self.curve[rows], return_inverse=True)
        return Points(self.x[used], self.times, curve, self.time[rows])


# theta: natural logarithms of g length scales of the configuration, then of these
T_ALL, T_OWN, T_TREND, A_ALL, A_OWN, A_TREND, NOISE = range(7)
# Weak log-normal prior: its centre and its width in natural logarithms.
CENTRE_X, WIDTH_X = 0.7, 0.8
CENTRE = np.array([0.5, 0.5, 0.5, 1.0, 0.3, 0.5, 0.1])
WIDTH = np.array([0.7, 0.7, 0.7, 1.0, 1.0, 1.0, 1.0])


def prior(groups: int) -> tuple[Array, Array]:
    """Centre and width, (g + 7,) each, of the prior of theta."""
    centre = np.log(np.r_[np.full(groups, CENTRE_X), CENTRE])
    return centre, np.r_[np.full(groups, WIDTH_X), WIDTH]


def _matern(r: Array) -> tuple[Array, Array]:
    """Matern 5/2 of scaled distances, and minus its derivative by r, divided by r."""
    s = math.sqrt(5.0) * r
    e = np.exp(-s)
    return (1.0 + s + s * s / 3.0) * e, 5.0 / 3.0 * (1.0 + s) * e


@dataclass(frozen=True)
class Groups:
    """Which coordinates share a length scale.

    Attributes:
        of: (d,), for each coordinate of a configuration the number of its length scale.
        count: g, the number of length scales.
    """

    of: Rows
    count: int


def _covariance(
    theta: Array, groups: Groups, a: Points, b: Points, same: NDArray[np.bool_]
) -> Array:
    """trend(t) + all(x) all(t) + own(t) within a curve, (n, m); each a Matern 5/2, without noise.

    Args:
        same: (n, m), whether two points lie on one curve.
    """
    own = theta[groups.count :]
    scale = np.exp(theta[: groups.count])[groups.of]
    r = cdist(a.x / scale, b.x / scale)
    dt = np.abs(a.times[:, None] - b.times[None])
    over_x = np.exp(2 * own[A_ALL]) * _matern(r)[0]
    over_t, within, trend = (_matern(dt / np.exp(own[i]))[0] for i in (T_ALL, T_OWN, T_TREND))
    times = np.ix_(a.time, b.time)
    k: Array = over_x[np.ix_(a.curve, b.curve)]
    k *= over_t[times]
    k += (np.exp(2 * own[A_TREND]) * trend)[times]
    row, column = np.nonzero(same)
    k[row, column] += np.exp(2 * own[A_OWN]) * within[a.time[row], b.time[column]]
    return k


def fit(points: Points, y: Array, groups: Groups, *, rounds: int) -> Array:
    """Hyperparameters of the greatest posterior density, (g + 7,), in natural logarithms.

    Args:
        y: (n,) with mean 0 and variance about 1.
        rounds: iterations of L-BFGS-B at most.
    """
    count, n = groups.count, len(y)
    centre, width = prior(count)
    dt = np.abs(points.times[:, None] - points.times[None])
    same = points.curve[:, None] == points.curve[None]
    curves, times = np.ix_(points.curve, points.curve), np.ix_(points.time, points.time)
    row, column = np.nonzero(same)
    pair = points.time[row] * len(points.times) + points.time[column]
    of_curve = (points.curve[:, None] == np.arange(len(points.x))[None]).astype(float)  # (n, c)
    of_time = (points.time[:, None] == np.arange(len(points.times))[None]).astype(float)  # (n, u)
    squares = np.zeros((count, len(points.x) ** 2))
    for j, group in enumerate(groups.of):
        squares[group] += ((points.x[:, None, j] - points.x[None, :, j]) ** 2).ravel()

    def over_times(w: Array) -> Array:
        """Sums of a matrix over pairs of points, (n, n), for each pair of times, (u, u)."""
        total: Array = of_time.T @ w @ of_time
        return total

    def loss(theta: Array) -> tuple[float, Array]:
        """Minus the log density, and its gradient."""
        own = theta[count:]
        weights = np.exp(-2.0 * theta[:count])
        mx, slope_x = _matern(np.sqrt(weights @ squares).reshape(len(points.x), -1))
        r_all, r_own, r_trend = (dt / np.exp(own[i]) for i in (T_ALL, T_OWN, T_TREND))
        (m_all, d_all), (m_own, d_own), (m_trend, d_trend) = map(_matern, (r_all, r_own, r_trend))
        v_all, v_own, v_trend, noise = np.exp(2 * own[[A_ALL, A_OWN, A_TREND, NOISE]])
        at_x, at_t = (v_all * mx)[curves], m_all[times]
        k = at_x * at_t + (v_trend * m_trend)[times]
        k[row, column] += v_own * m_own.ravel()[pair]
        k.flat[:: n + 1] += noise + JITTER
        lower, failed = dpotrf(k, lower=1)
        z = (theta - centre) / width
        if failed:
            return 1e10, z / width
        alpha = cho_solve((lower, True), y)
        value = 0.5 * y @ alpha + np.log(np.diag(lower)).sum() + 0.5 * z @ z
        inverse, _ = dpotri(lower, lower=1)
        w = inverse + inverse.T  # only the lower triangle of the inverse is filled
        w.flat[:: n + 1] *= 0.5
        w -= alpha[:, None] * alpha[None]
        w *= 0.5  # the change of the loss is now sum(w * dk)
        w_all, w_trend = over_times(w * at_x), over_times(w)
        w_own = np.bincount(pair, w[row, column], dt.size).reshape(dt.shape)
        w_x = v_all * (of_curve.T @ (w * at_t) @ of_curve)
        gradient = z / width
        gradient[:count] += weights * (squares @ (w_x * slope_x).ravel())
        gradient[count + T_ALL] += (w_all * d_all * r_all**2).sum()
        gradient[count + T_OWN] += v_own * (w_own * d_own * r_own**2).sum()
        gradient[count + T_TREND] += v_trend * (w_trend * d_trend * r_trend**2).sum()
        gradient[count + A_ALL] += 2.0 * (w_all * m_all).sum()
        gradient[count + A_OWN] += 2.0 * v_own * (w_own * m_own).sum()
        gradient[count + A_TREND] += 2.0 * v_trend * (w_trend * m_trend).sum()
        gradient[count + NOISE] += 2.0 * noise * np.trace(w)
        return float(value), gradient

    bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
    found = minimize(
        loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": rounds}
    )
    theta: Array = found.x
    return theta


class Posterior:
    """The process, conditioned on observations.

    Args:
        points: n observed places.
        y: (n,) observed values.
        theta: (g + 7,) hyperparameters.
    """

    def __init__(self, points: Points, y: Array, theta: Array, groups: Groups) -> None:
        self._points, self._theta, self._groups = points, theta, groups
        same = points.curve[:, None] == points.curve[None]
        k = _covariance(theta, groups, points, points, same)
        k.flat[:: len(y) + 1] += np.exp(2 * theta[groups.count + NOISE]) + JITTER
        self._lower = np.linalg.cholesky(k)
        self._alpha = cho_solve((self._lower, True), y)

    def __call__(self, points: Points, curves: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation, (m,) each, of curves without their noise.

        Args:
            points: m places.
            curves: (m,), the row of the observed curve on which a place lies, or -1.
        """
        mean, v = self._given(points, curves)
        variance = np.exp(2 * self._own[[A_ALL, A_OWN, A_TREND]]).sum() - (v * v).sum(0)
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def draw(self, points: Points, curves: Rows, rng: np.random.Generator) -> Array:
        """Values without noise, (m,), of one draw from the process.

        Args:
            points, curves: as above; each place lies on a curve of its own.
        """
        mean, v = self._given(points, curves)
        alone = np.eye(len(points), dtype=bool)
        k = _covariance(self._theta, self._groups, points, points, alone) - v.T @ v
        k.flat[:: len(points) + 1] += JITTER
        values: Array = mean + np.linalg.cholesky(k) @ rng.standard_normal(len(points))
        return values

    @property
    def noise(self) -> float:
        """The standard deviation of an observation around its curve."""
        return float(np.exp(self._own[NOISE]))

    @property
    def _own(self) -> Array:
        return self._theta[self._groups.count :]

    def _given(self, points: Points, curves: Rows) -> tuple[Array, Array]:
        """The mean, (m,), and v, (n, m): the observations reduce the covariance by v.T @ v."""
        same = curves[:, None] == self._points.curve[None]
        k = _covariance(self._theta, self._groups, points, self._points, same)
        return k @ self._alpha, solve_triangular(self._lower, k.T, lower=True)
