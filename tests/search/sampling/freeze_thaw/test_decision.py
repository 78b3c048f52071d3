import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from curve_studies import studies
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from scipy.stats import norm

from search.sampling.freeze_thaw import Curve, Decision, Left, grid
from search.sampling.freeze_thaw.decision import ENDLESS, decide, expected
from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.model import Model
from search.spec.space import Parameter, Space

SPACE = Space((Parameter(name="x", distribution=FloatDistribution(0.0, 1.0)),))
LAST = 12


def curve(lineage: int, x: float, steps: int, state: Any = "paused") -> Curve:
    values = {step: x - 0.5 / step for step in range(1, steps + 1)}
    return Curve(lineage=lineage, params={"x": x}, values=values, last_step=LAST, state=state)


def next_of(curves: Sequence[Curve], *, seed: int = 0, may_begin: bool = True,
            direction: str = "maximize", left: Left = ENDLESS) -> Decision | None:  # fmt: skip
    return decide(SPACE, {}, curves, direction=direction, seed=seed, may_begin=may_begin,
                  last_step_of=lambda params: LAST, left=left)  # fmt: skip


@pytest.mark.parametrize(
    ("last", "steps"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (5, (1, 2, 3, 4, 5)), (12, (1, 2, 3, 4, 6, 8, 12)),
     (25, (1, 2, 3, 4, 6, 8, 12, 16, 25)), (27, (1, 2, 3, 4, 6, 8, 12, 16, 27))],
)  # fmt: skip
def test_the_grid_of_pauses(last: int, steps: tuple[int, ...]) -> None:
    assert grid(last) == steps


def test_a_study_begins_with_new_lineages() -> None:
    decision = next_of([])
    assert decision is not None and decision.lineage is None and decision.until == 1
    assert 0.0 <= decision.params["x"] <= 1.0 and decision.random


def test_nothing_to_begin_and_nothing_paused_is_no_decision() -> None:
    assert next_of([curve(0, 0.5, LAST, "complete")], may_begin=False) is None
    assert next_of([replace(curve(0, 0.5, 2), state="running", until=3)], may_begin=False) is None
    assert next_of([curve(0, 0.5, 2, "ended")], may_begin=False) is None


def test_one_curve_alone_goes_on() -> None:
    decision = next_of([curve(4, 0.5, 2)], may_begin=False)
    assert decision is not None and (decision.lineage, decision.until) == (4, 3)


def test_the_best_of_the_paused_goes_on() -> None:
    curves = [curve(i, i / 11, 2) for i in range(12)]
    chosen = [d.lineage for seed in range(10) if (d := next_of(curves, seed=seed, may_begin=False))]
    assert sum(lineage in (10, 11) for lineage in chosen) >= 7


@pytest.mark.slow
def test_what_noise_hides_is_followed_on_several_curves() -> None:
    """A few of the best go on where it is unclear which is better, and fewer where it is not."""
    dice = np.random.default_rng(0)
    smooth = [curve(i, i / 11, 4) for i in range(12)]
    noisy = [
        replace(c, values={s: v + 0.3 * dice.standard_normal() for s, v in c.values.items()})
        for c in smooth
    ]

    def chosen(curves: Sequence[Curve], left: Left = ENDLESS) -> list[int | None]:
        decisions = (next_of(curves, seed=n, may_begin=False, left=left) for n in range(20))
        return [one.lineage for one in decisions if one]

    assert len({*chosen(smooth)}) < len({*chosen(noisy)})
    assert chosen(noisy, Left(steps=40 * LAST)) == chosen(noisy)
    # With room for two trials the best goes on, but for what is decided at random.
    timed = [replace(c, seconds_per_step=2.0) for c in noisy]
    for few in (chosen(noisy, Left(steps=2 * LAST)), chosen(timed, Left(seconds=4.0 * LAST))):
        assert len({*few}) < len({*chosen(noisy)})
        assert few.count(max(few, key=few.count)) >= 15
    doubts = [Model(Encoding(SPACE, {}), curves, "maximize").doubt for curves in (smooth, noisy)]
    assert doubts[0] < 0.05 and doubts[1] > 0.3


@pytest.mark.slow
def test_a_step_that_costs_more_has_to_promise_more() -> None:
    curves = [curve(i, i / 11, 2) for i in range(12)]
    dear = [replace(c, seconds_per_step=100.0 if c.lineage == 11 else 1.0) for c in curves]
    chosen = [d.lineage for s in range(12) if (d := next_of(curves, seed=s, may_begin=False))]
    instead = [d.lineage for s in range(12) if (d := next_of(dear, seed=s, may_begin=False))]
    assert instead.count(11) < chosen.count(11)


ENDS = [
    pytest.param(lambda amount: Left(seconds=5.0 * amount), id="hours"),
    pytest.param(lambda amount: Left(steps=amount), id="steps"),
]


@pytest.mark.slow
@pytest.mark.parametrize("left", ENDS)
def test_the_end_of_the_budget_completes_the_best_that_it_can(left: Any) -> None:
    """Ten steps are missing everywhere, and a decision takes one step at least."""
    curves = [replace(curve(i, i / 11, 2), seconds_per_step=5.0) for i in range(12)]
    for seed in range(6):
        free = next_of(curves, seed=seed)
        assert free is not None and not free.finishes
        # Time for another decision; too late for any of them.
        assert next_of(curves, seed=seed, left=left(30)) == free
        assert next_of(curves, seed=seed, left=left(9)) == free
        decision = next_of(curves, seed=seed, left=left(10))
        assert decision is not None
        if decision.finishes:
            assert (decision.lineage, decision.until, decision.threshold) == (11, LAST, None)
            assert decision.horizon == LAST and decision.mean is not None and not decision.random
        else:
            assert decision.lineage == 11
        # What can no longer be completed does not keep the second best from it.
        later = [*curves[:11], replace(curve(11, 1.0, 1), seconds_per_step=5.0)]
        decision = next_of(later, seed=seed, left=left(10))
        assert decision is not None and (decision.finishes or decision.lineage == 10)
        assert decision.lineage == 10


@pytest.mark.slow
@pytest.mark.parametrize("left", ENDS)
def test_the_end_of_the_budget_completes_nothing_worse_than_what_is_complete(left: Any) -> None:
    curves = [replace(curve(i, i / 11, 2), seconds_per_step=5.0) for i in range(11)]
    done = replace(curve(11, 1.0, LAST, "complete"), seconds_per_step=5.0)
    worse = replace(curve(11, 0.0, LAST, "complete"), seconds_per_step=5.0)
    for seed in range(6):
        free = next_of([*curves, done], seed=seed, may_begin=False)
        assert next_of([*curves, done], seed=seed, may_begin=False, left=left(10)) == free
        decision = next_of([*curves, worse], seed=seed, left=left(10))
        assert decision is not None and decision.lineage == 10
        assert decision.threshold is not None
        assert not decision.finishes or decision.threshold < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("left", ENDS)
def test_what_can_no_longer_be_completed_is_not_considered(left: Any) -> None:
    """Ten steps are missing, but eleven of the last one, and twelve of a new one."""
    curves = [replace(curve(i, i / 11, 2), seconds_per_step=5.0) for i in range(11)]
    for x, chosen in ((1.0, 11), (0.8, None)):
        known = [*curves, replace(curve(11, x, 1), seconds_per_step=5.0)]
        for amount, gone in ((math.inf, set()), (12.0, set()), (11.0, {None}), (10.5, {None, 11})):
            some = [next_of(known, seed=seed, left=left(amount)) for seed in range(6)]
            lineages = {decision.lineage for decision in some if decision}
            assert chosen in lineages if chosen not in gone else not gone & lineages
    few = [curve(i, i / 11, 2) for i in range(3)]
    for seed in range(6):  # a study that is too short for anything begins all the same
        decision = next_of(few, seed=seed, left=Left(steps=3))
        assert decision is not None and decision.lineage is None


@pytest.mark.slow
@pytest.mark.parametrize("left", ENDS)
def test_a_search_is_over_when_nothing_more_can_be_completed(left: Any) -> None:
    """Ten steps are missing. Without a complete one the search goes on: one will be completed."""
    curves = [replace(curve(i, i / 11, 2), seconds_per_step=5.0) for i in range(11)]
    for state, over in (("complete", True), ("ended", False), ("running", False)):
        last = replace(curve(11, 0.0, LAST, state), seconds_per_step=5.0)  # type: ignore[arg-type]
        for seed in range(6):
            assert next_of([*curves, last], seed=seed, left=left(10)) is not None
            decision = next_of([*curves, last], seed=seed, left=left(9))
            assert (decision is None) == over


def test_workers_do_not_choose_what_runs() -> None:
    curves = [curve(i, i / 11, 2) for i in range(12)]
    first = next_of(curves, may_begin=False)
    assert first is not None and first.lineage is not None
    curves[first.lineage] = replace(curves[first.lineage], state="running", until=first.until)
    second = next_of(curves, may_begin=False)
    assert second is not None and second.lineage not in (None, first.lineage)


def test_a_lineage_that_ended_badly_speaks_against_its_neighbours() -> None:
    curves = [curve(i, i / 11, 2) for i in range(12)]
    bad = [replace(c, state="ended") if c.lineage >= 9 else c for c in curves]
    before, after = (expected(SPACE, {}, c, direction="maximize") for c in (curves, bad))
    assert after[8][0] < before[8][0]


def test_new_ones_come_from_a_list_where_there_is_one() -> None:
    curves = [curve(i, i / 11, LAST, "complete") for i in range(12)]
    few = [{"x": 0.25}, {"x": 0.75}]
    for seed in range(5):
        decision = decide(SPACE, {}, curves, direction="maximize", seed=seed, may_begin=True,
                          last_step_of=lambda params: LAST, among=few)  # fmt: skip
        assert decision is not None and decision.params in few
    assert (
        decide(SPACE, {}, curves, direction="maximize", seed=0, may_begin=True,
               last_step_of=lambda params: LAST, among=[]) is None
    )  # fmt: skip


@pytest.mark.slow
@given(studies(), st.integers(0, 2**40), st.booleans(), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=25, deadline=None)
def test_every_decision_is_one_that_can_be_carried_out(
    study: tuple[Space, list[Curve]], seed: int, may_begin: bool, direction: str
) -> None:
    space, curves = study

    def ask(known: Sequence[Curve]) -> Decision | None:
        return decide(space, {}, known, direction=direction, seed=seed, may_begin=may_begin,
                      last_step_of=lambda params: 7)  # fmt: skip

    decision = ask(curves)
    open_ones = {c.lineage: c for c in curves
                 if c.state == "paused" and max(c.values, default=0) < c.last_step}  # fmt: skip
    if decision is None:
        assert not may_begin and not open_ones
        return
    if decision.lineage is None:
        assert may_begin and decision.until == grid(7)[0]
        assert space.complete(decision.params, {}, "decision") == decision.params
    else:
        on = open_ones[decision.lineage]
        assert decision.params == {} and decision.until > max(on.values, default=0)
        assert decision.until in grid(on.last_step) and decision.horizon >= decision.until
    figures = (decision.threshold, decision.mean, decision.deviation)
    assert all(f is None for f in figures) if decision.random else all(map(math.isfinite, figures))  # type: ignore[arg-type]
    shuffled = [curves[i] for i in np.random.default_rng(seed).permutation(len(curves))]
    assert ask(curves) == decision == ask(shuffled)
    for mean, deviation in expected(space, {}, curves, direction=direction).values():
        assert math.isfinite(mean) and deviation >= 0.0


def test_a_metric_turned_round_gives_the_same_decision() -> None:
    curves = [curve(i, i / 11, 1 + i % 4) for i in range(12)]
    losses = [replace(c, values={s: 3.0 - 0.5 * v for s, v in c.values.items()}) for c in curves]
    for seed in range(6):
        one, other = next_of(curves, seed=seed), next_of(losses, seed=seed, direction="minimize")
        assert one is not None and other is not None
        assert (one.lineage, one.until) == (other.lineage, other.until)
        if one.mean is not None and other.mean is not None:
            assert other.mean == pytest.approx(3.0 - 0.5 * one.mean, abs=1e-4)


def test_expected_is_close_to_what_comes() -> None:
    curves = [curve(i, i / 11, LAST if i % 2 else 6) for i in range(12)]
    seen = expected(SPACE, {}, curves, direction="maximize")
    for i in (6, 8, 10):
        mean, deviation = seen[i]
        assert abs(mean - (i / 11 - 0.5 / LAST)) < 0.05 and 0.0 < deviation < 0.2
    assert expected(SPACE, {}, [], direction="maximize") == {}


@pytest.mark.slow
def test_it_is_sooner_than_random_search() -> None:
    """On curves that rise to a peak over two parameters, for the steps of 30 random trials."""
    space = Space(tuple(Parameter(name=n, distribution=FloatDistribution(0.0, 1.0)) for n in "xy"))

    def value(params: Any, step: int) -> float:
        peak = math.exp(-8.0 * ((params["x"] - 0.7) ** 2 + (params["y"] - 0.2) ** 2))
        return peak * (1.0 - 0.5 / step**0.7)

    def found(seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        at_random = max(value(dict(zip("xy", rng.random(2), strict=True)), LAST) for _ in range(30))
        curves: list[Curve] = []
        steps, best = 0, 0.0
        while steps < 6 * LAST:  # a fifth of the steps
            number = seed * 1000 + steps
            d = decide(space, {}, curves, direction="maximize", seed=number, may_begin=True,
                       last_step_of=lambda params: LAST)  # fmt: skip
            assert d is not None
            if d.lineage is None:
                curves.append(Curve(lineage=len(curves), params=d.params, values={},
                                    last_step=LAST, state="paused"))  # fmt: skip
            i = len(curves) - 1 if d.lineage is None else d.lineage
            c = curves[i]
            steps += d.until - max(c.values, default=0)
            values = {s: value(c.params, s) for s in range(1, d.until + 1)}
            done = d.until == LAST
            curves[i] = replace(c, values=values, state="complete" if done else "paused")
            best = max(best, values[LAST]) if done else best
        return best, at_random

    pairs = [found(seed) for seed in range(5)]
    assert sum(best >= at_random for best, at_random in pairs) >= 4


@pytest.mark.slow
def test_a_step_of_four_times_the_seconds_wants_twice_the_improvement() -> None:
    """The dearer one goes on while its seconds are fewer than the square of what it promises."""
    curves = [curve(i, i / 11, LAST, "complete") for i in range(10)]
    curves += [curve(10, 0.95, 2), curve(11, 0.96, 2)]
    model = Model(Encoding(SPACE, {}), curves, "maximize")
    assert model.doubt < 0.01  # so that the greatest expected improvement goes on
    mean, deviation = model.finals()
    z = (mean - mean.max()) / deviation
    promised = (deviation * (z * norm.cdf(z) + norm.pdf(z)))[10:]
    better, other = (10, 11) if promised[0] > promised[1] else (11, 10)
    ratio = promised.max() / promised.min()
    assert 1.3 < ratio < 1e4
    for seed in range(4):
        for share, wanted in ((0.8, better), (1.25, other)):
            dear = [replace(c, seconds_per_step=share * ratio**2 if c.lineage == better else 1.0)
                    for c in curves]  # fmt: skip
            decision = next_of(dear, seed=seed, may_begin=False)
            assert decision is not None and decision.lineage == wanted and not decision.random
