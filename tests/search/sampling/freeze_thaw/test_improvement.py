"""The expected improvement against its integral."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from search.sampling.freeze_thaw.improvement import log_expected_improvement


@pytest.mark.parametrize("z", [-3e8, -1e4, -9.9e3, -40.0, -6.0, -1.0, -0.99, 0.0, 0.7, 5.0, 60.0])
@pytest.mark.parametrize("deviation", [1e-5, 0.3, 40.0])
def test_it_is_the_integral(z: float, deviation: float) -> None:
    if z < 0:  # E = deviation * density(z) / z^2 * the integral of u exp(-u - u^2 / (2 z^2))
        area, _ = quad(lambda u: u * math.exp(-u - 0.5 * (u / z) ** 2), 0, np.inf)
        true = math.log(area) - 2 * math.log(-z) + norm.logpdf(z)
    else:
        area, _ = quad(lambda t: t * norm.pdf(t - z), 0, z + 40, points=[z])
        true = math.log(area)
    found = log_expected_improvement(np.array([z * deviation]), np.array([deviation]))
    assert found[0] == pytest.approx(true + math.log(deviation), rel=1e-7, abs=1e-6)


@given(st.lists(st.floats(-1e9, 1e3), min_size=2, max_size=20))
def test_more_is_expected_of_a_greater_mean(means: list[float]) -> None:
    found = log_expected_improvement(np.sort(means), np.ones(len(means)))
    assert np.isfinite(found).all() and (np.diff(found) >= 0.0).all()
