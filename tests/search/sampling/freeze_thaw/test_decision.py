from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution

from search.sampling.freeze_thaw import Curve, Decision, decide, expected
from search.spec.space import Parameter, Space

SPACE = Space((Parameter(name="x", distribution=FloatDistribution(0.0, 1.0)),))
LAST = 12


def curve(lineage: int, x: float, steps: int, state: Any = "paused") -> Curve:
    values = {step: x - 0.5 / step for step in range(1, steps + 1)}
    return Curve(lineage=lineage, params={"x": x}, values=values, last_step=LAST, state=state)


def next_of(curves: list[Curve], *, seed: int = 0, may_begin: bool = True) -> Decision | None:
    return decide(SPACE, {}, curves, direction="maximize", seed=seed, may_begin=may_begin,
                  last_step_of=lambda params: LAST)  # fmt: skip


def test_a_study_begins_with_new_lineages() -> None:
    decision = next_of([])
    assert decision is not None and decision.lineage is None and decision.until == 1
    assert 0.0 <= decision.params["x"] <= 1.0


def test_nothing_to_begin_and_nothing_paused_is_no_decision() -> None:
    assert next_of([curve(0, 0.5, LAST, "complete")], may_begin=False) is None


def test_the_best_of_the_paused_goes_on() -> None:
    curves = [curve(i, i / 11, 2) for i in range(12)]
    chosen = [d.lineage for seed in range(10) if (d := next_of(curves, seed=seed, may_begin=False))]
    assert sum(lineage in (10, 11) for lineage in chosen) >= 7


def test_the_order_of_the_curves_does_not_matter() -> None:
    curves = [curve(i, i / 11, 1 + i % 4) for i in range(12)]
    assert all(next_of(curves, seed=s) == next_of(curves[::-1], seed=s) for s in range(5))


def test_expected_is_close_to_what_comes() -> None:
    curves = [curve(i, i / 11, LAST if i % 2 else 6) for i in range(12)]
    seen: Mapping[int, tuple[float, float]] = expected(SPACE, {}, curves, direction="maximize")
    for i in (6, 8, 10):
        mean, deviation = seen[i]
        assert abs(mean - (i / 11 - 0.5 / LAST)) < 0.05 and 0.0 < deviation < 0.2
