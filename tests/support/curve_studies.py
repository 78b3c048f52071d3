"""Hypothesis strategies: spaces, and the curves of a study that searches them."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.sampling.freeze_thaw import Curve, grid
from search.sampling.freeze_thaw.encoding import Encoding
from search.spec.space import Parameter, Space

DISTRIBUTIONS: list[Any] = [
    FloatDistribution(0.0, 1.0),
    FloatDistribution(1e-5, 1e-1, log=True),
    FloatDistribution(0.0, 0.5, step=0.1),
    IntDistribution(1, 3),
    IntDistribution(16, 512, log=True),
    IntDistribution(8, 32, step=8),
    IntDistribution(5, 5),
    CategoricalDistribution(["relu", "gelu", True]),
]


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """A few parameters; some depend on a choice, some are sampled once for each layer."""
    parameters = [
        Parameter(name="family", distribution=CategoricalDistribution(["a", "b"])),
        Parameter(name="layers", distribution=IntDistribution(0, 2)),
    ]
    for i in range(draw(st.integers(0, 4))):
        when = draw(st.sampled_from([{}, {"family": ("a",)}]))
        for_each = draw(st.sampled_from([None, "layers"]))
        distribution = draw(st.sampled_from(DISTRIBUTIONS))
        parameters.append(
            Parameter(name=f"p{i}x", distribution=distribution, when=when, for_each=for_each)
        )
    return Space(tuple(parameters))


@st.composite
def studies(draw: st.DrawFn) -> tuple[Space, list[Curve]]:
    """A space and any curves: none reported, equal, huge, not a number, in every state."""
    space = draw(spaces())
    values = st.one_of(
        st.sampled_from([0.0, 0.5]),
        st.floats(0.0, 1.0),
        st.floats(-1e6, 1e6),
        st.sampled_from([float("nan"), float("inf")]),
    )
    params = Encoding(space, {}).sample(np.random.default_rng(draw(st.integers(0, 99))), 16)
    curves = []
    for lineage in range(draw(st.integers(0, 16))):
        last = draw(st.sampled_from([1, 2, 7, 12]))
        state = draw(st.sampled_from(["paused", "paused", "running", "complete", "ended"]))
        reached = last if state == "complete" else draw(st.integers(0, last))
        later = [step for step in grid(last) if step > reached]
        curves.append(
            Curve(
                lineage=2 * lineage,
                params=params[lineage],
                values={step: draw(values) for step in range(1, reached + 1)},
                last_step=last,
                state=state,
                until=later[0] if state == "running" and later else None,
                seconds_per_step=draw(st.sampled_from([None, 0.0, 0.01, 30.0])),
            )
        )
    return space, curves
