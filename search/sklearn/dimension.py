"""One key of `param_distributions` as a parameter of Optuna's."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy import stats

from search.errors import SpecError

__all__ = ["Dimension", "make_dimension"]

#: Quantiles this far from 0 and 1 are left out: an unbounded distribution ends there at infinity.
QUANTILE_MARGIN = 1e-6
LABEL_LENGTH = 60  # characters of an object's repr that are shown as its label


@dataclass(frozen=True)
class Dimension:
    """One key of one dict of `param_distributions`.

    `distribution` is None for an object of which nothing is known but its `rvs`: it is then drawn
    from, and the sampler is not told.
    """

    key: str
    source: Any
    name: str
    distribution: BaseDistribution | None
    quantile: bool = False

    @property
    def is_list(self) -> bool:
        return not hasattr(self.source, "rvs")

    def to_optuna(self, value: Any) -> Any:
        """The value of a `Point` as the value of the Optuna parameter."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[value]
        if self.quantile:
            # Half way up the step of a discrete distribution; no step in a continuous one.
            step = self.source.pmf(value) if hasattr(self.source, "pmf") else 0.0
            middle = float(self.source.cdf(value) - step / 2)
            return min(max(middle, QUANTILE_MARGIN), 1 - QUANTILE_MARGIN)
        return int(value) if isinstance(self.distribution, IntDistribution) else float(value)

    def from_optuna(self, value: Any) -> Any:
        """The value of the Optuna parameter as the value of a `Point`."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices.index(value)
        if self.quantile:
            found = float(self.source.ppf(value))
            whole = hasattr(self.source, "pmf") and found.is_integer()
            return int(found) if whole else found
        return value


def make_dimension(key: str, source: Any, name: str) -> Dimension:
    """The dimension of one key.

    Args:
        source: a list of values, or an object with `rvs`.
        name: of the Optuna parameter.

    Raises:
        SpecError: the list is empty.
    """
    if not hasattr(source, "rvs"):
        if not len(source):
            raise SpecError(f"param_distributions: {key!r} has no values; list at least one")
        return Dimension(key, source, name, CategoricalDistribution(_labels(source)))
    family = getattr(source, "dist", source)
    if not isinstance(family, stats.rv_continuous | stats.rv_discrete):
        return Dimension(key, source, name, None)
    support = np.asarray(source.support())
    if support.shape != (2,):  # it draws arrays
        return Dimension(key, source, name, None)
    low, high = map(float, support)
    if math.isnan(low):  # as of `uniform(1, 0)`, whose one value is 1
        return Dimension(key, source, name, None)
    if type(family) is type(stats.uniform):
        return Dimension(key, source, name, FloatDistribution(low, high))
    if type(family) is type(stats.randint):
        return Dimension(key, source, name, IntDistribution(int(low), int(high)))
    if type(family) is type(stats.loguniform) and math.isclose(
        source.median(), math.sqrt(low * high)
    ):  # a shifted one is no log-uniform distribution any more
        return Dimension(key, source, name, FloatDistribution(low, high, log=True))
    if not _has_quantiles(source):
        return Dimension(key, source, name, None)
    # Any other is searched over its quantiles, so that the sampler starts from its shape.
    unit = FloatDistribution(QUANTILE_MARGIN, 1 - QUANTILE_MARGIN)
    return Dimension(key, source, f"{name} (quantile)", unit, quantile=True)


def _has_quantiles(source: Any) -> bool:
    """Whether values and quantiles can be computed from each other.

    A class of one's own need not define more than what it is drawn by. SciPy adds the terms of a
    discrete distribution one by one up to a quantile, which takes minutes where its tail is so
    heavy that it has no finite deviation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            middle = float(source.ppf(0.5))
            found = [source.cdf(middle)]
            if hasattr(source, "pmf"):
                found += [source.pmf(middle), source.std()]
            return bool(np.isfinite([middle, *found]).all())
        except Exception:  # scipy derives each function from the others, in a circle if need be
            return False


def _labels(values: Iterable[Any]) -> list[Any]:
    """The values where Optuna can store them and tell them apart, else a numbered text."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    storable = all(
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
        for value in plain
    )
    if storable and len(set(plain)) == len(plain):
        return plain
    return [f"{i}: {' '.join(repr(value).split())[:LABEL_LENGTH]}" for i, value in enumerate(plain)]
