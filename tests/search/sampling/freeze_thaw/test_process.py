"""Against scikit-learn's Gaussian process with the same kernel, put together from its own parts."""

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel, Matern

from search.sampling.freeze_thaw.process import (
    A_ALL,
    A_OWN,
    A_TREND,
    JITTER,
    NOISE,
    T_ALL,
    T_OWN,
    T_TREND,
    Array,
    Groups,
    Points,
    Posterior,
    fit,
    prior,
)

GROUPS = Groups(np.array([0, 1, 1]), 2)


class CurveKernel(Kernel):  # type: ignore[misc]
    """Rows are three coordinates of a configuration, a time, and the number of a curve."""

    def __init__(self, theta_: Any) -> None:
        self.theta_ = theta_

    def __call__(self, X: Array, Y: Any = None, eval_gradient: bool = False) -> Array:
        Y = X if Y is None else Y
        lengths, own = np.exp(self.theta_[:2])[GROUPS.of], np.exp(self.theta_[2:])

        def over_time(i: int) -> Array:
            k: Array = Matern(own[i], nu=2.5)(X[:, 3:4], Y[:, 3:4])
            return k

        same = X[:, 4:] == Y[:, 4:].T
        return (
            own[A_ALL] ** 2 * Matern(lengths, nu=2.5)(X[:, :3], Y[:, :3]) * over_time(T_ALL)
            + own[A_OWN] ** 2 * same * over_time(T_OWN)
            + own[A_TREND] ** 2 * over_time(T_TREND)
        )

    def diag(self, X: Array) -> Array:
        return np.array([self(row[None])[0, 0] for row in X])

    def is_stationary(self) -> bool:
        return False


@pytest.fixture
def points() -> Points:
    rng = np.random.default_rng(1)
    curve = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5])
    time = np.array([0, 1, 3, 0, 0, 2, 1, 0, 1, 2, 0])
    return Points(rng.random((6, 3)), np.array([0.0, 0.3, 0.6, 1.0]), curve, time)


def rows(points: Points) -> Array:
    return np.c_[points.x[points.curve], points.times[points.time], points.curve]


def oracle(points: Points, y: Array, theta: Array) -> Any:
    noise = np.exp(2 * theta[2 + NOISE]) + JITTER
    process = GaussianProcessRegressor(CurveKernel(theta), alpha=noise, optimizer=None)
    return process.fit(rows(points), y)


def test_the_posterior_is_that_of_scikit_learn(points: Points) -> None:
    rng = np.random.default_rng(2)
    theta = prior(2)[0] + 0.3 * rng.normal(size=9)
    y = rng.normal(size=len(points))
    new = Points(
        np.vstack([points.x[[1, 3]], rng.random((3, 3))]),
        np.array([0.3, 0.8, 1.0]),
        np.arange(5),
        np.array([1, 2, 0, 1, 2]),
    )
    known = np.array([1, 3, -1, -1, -1])
    mean, deviation = Posterior(points, y, theta, GROUPS)(new, known)
    wanted = np.c_[new.x, new.times[new.time], [1, 3, 100, 101, 102]]
    expected = oracle(points, y, theta).predict(wanted, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-9)
    np.testing.assert_allclose(deviation, expected[1], rtol=1e-6)


@pytest.mark.slow
def test_draws_are_those_of_scikit_learns_process(points: Points) -> None:
    rng = np.random.default_rng(3)
    theta = prior(2)[0] + 0.3 * rng.normal(size=9)
    y = rng.normal(size=len(points))
    new = Points(
        np.vstack([points.x[[1, 3]], rng.random((2, 3))]),
        np.array([0.8]),
        np.arange(4),
        np.zeros(4, int),
    )
    posterior = Posterior(points, y, theta, GROUPS)
    draws = np.array([posterior.draw(new, np.array([1, 3, -1, -1]), rng) for _ in range(4000)])
    wanted = np.c_[new.x, new.times[new.time], [1, 3, 100, 101]]
    mean, covariance = oracle(points, y, theta).predict(wanted, return_cov=True)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((draws.mean(0) - mean) / scale, 0.0, atol=0.08)
    np.testing.assert_allclose(
        (np.cov(draws.T) - covariance) / np.outer(scale, scale), 0.0, atol=0.1
    )


def test_fit_finds_a_maximum_of_the_posterior_density(points: Points) -> None:
    rng = np.random.default_rng(3)
    y = np.sin(3.0 * rows(points)[:, 0]) + rows(points)[:, 3] + 0.1 * rng.normal(size=len(points))
    y = (y - y.mean()) / y.std()
    centre, width = prior(2)

    def density(theta: Array) -> float:
        likelihood = oracle(points, y, theta).log_marginal_likelihood_value_
        return float(likelihood - 0.5 * (((theta - centre) / width) ** 2).sum())

    found = fit(points, y, GROUPS, rounds=300)
    for i in range(len(found)):
        for step in (-0.02, 0.02):
            other = found.copy()
            other[i] += step
            assert density(other) < density(found) + 1e-7
    assert density(found) > density(centre) + 0.5


def test_fit_of_values_without_any_difference_stays_finite(points: Points) -> None:
    theta = fit(points, np.zeros(len(points)), GROUPS, rounds=50)
    assert np.all(np.isfinite(theta))
