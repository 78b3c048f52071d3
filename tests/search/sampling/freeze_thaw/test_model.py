import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.sampling.freeze_thaw.model import MOST, Scale, _latest

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@given(VALUES, st.sampled_from(["maximize", "minimize"]))
def test_the_scale_keeps_the_order_down_to_its_floor_and_goes_back(
    values: list[float], direction: str
) -> None:
    observed = np.array(values)
    scale = Scale.of(observed, direction)
    y = scale.to(observed)
    assert np.all(np.isfinite(y)) and abs(y.mean()) < 1e-6
    good = scale.sign * observed
    assert np.all(np.diff(y[np.argsort(good, kind="stable")]) >= -1e-12)
    np.testing.assert_allclose(scale.sign * scale.back(y), np.maximum(good, scale.floor), atol=1e-6)


@given(VALUES, st.sampled_from([1e-3, 1.0, 50.0]), st.sampled_from([-7.0, 0.0, 100.0]))
def test_the_unit_and_the_zero_of_a_metric_do_not_matter(
    values: list[float], factor: float, shift: float
) -> None:
    observed = np.array([round(v, 2) for v in values])
    y = Scale.of(observed, "maximize").to(observed)
    other = -(factor * observed + shift)
    np.testing.assert_allclose(Scale.of(other, "minimize").to(other), y, atol=1e-6)


def test_a_deviation_is_in_units_of_the_metric() -> None:
    scale = Scale.of(np.linspace(0.0, 100.0, 50), "maximize")
    mean = scale.to(np.array([90.0]))
    narrow, wide = (scale.deviation(mean, np.array([d]))[0] for d in (0.01, 0.02))
    assert 0.0 < narrow < 3.0 and wide == pytest.approx(2.0 * narrow, rel=0.01)


def test_of_too_many_observations_the_last_of_each_curve_are_kept() -> None:
    rows = np.repeat(np.arange(MOST // 2), 3)
    kept = _latest(rows, np.zeros(len(rows)))
    assert len(kept) == MOST and set(kept % 3) == {1, 2}
    many = np.arange(MOST + 100)
    assert set(_latest(many, many.astype(float))) == set(range(100, MOST + 100))
