"""Which paused lineage goes on, or whether a new one begins.

Source: ifBO, "In-context freeze-thaw Bayesian optimization", arXiv 2404.16795: the most probable
improver of a threshold at a horizon, both drawn at random.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.model import SETTINGS, Model, Settings, encode_all
from search.sampling.freeze_thaw.records import Curve, Decision, grid
from search.spec.space import Space

__all__ = ["decide", "expected"]

Params = Mapping[str, Any]


def decide(
    space: Space,
    fixed: Params,
    curves: Sequence[Curve],
    *,
    direction: str,
    seed: int,
    may_begin: bool,
    last_step_of: Callable[[Params], int],
    among: Sequence[Params] | None = None,
    settings: Settings = SETTINGS,
) -> Decision | None:
    """What a free worker does next; None when nothing can be begun or continued.

    A pure function: the same arguments give the same decision, whatever the order of the curves.

    Args:
        space: the space that is searched.
        fixed: parameters that are not searched.
        curves: every lineage begun so far.
        direction: "maximize" or "minimize".
        seed: of all draws; a different one for each decision of a study.
        may_begin: whether a new lineage may begin.
        last_step_of: the step that completes a trial of these parameters (searched ones only).
        among: the only configurations that a new lineage may have; None for the whole space.
    """
    rng = np.random.default_rng(seed)
    curves = sorted(curves, key=lambda c: c.lineage)
    encoding = Encoding(space, fixed)
    may_begin = may_begin and (among is None or len(among) > 0)
    paused = [i for i, c in enumerate(curves) if c.state == "paused" and reached(c) < c.last_step]
    if not paused and not may_begin:
        return None

    def draw() -> Params:
        return encoding.sample(rng) if among is None else among[int(rng.integers(len(among)))]

    def at_random() -> Decision:
        if may_begin:
            params = draw()
            until = grid(last_step_of(params))[0]
            return Decision(lineage=None, params=params, until=until, horizon=until, random=True)
        curve = curves[paused[int(rng.integers(len(paused)))]]
        until = pauses(curve)[0]
        return Decision(lineage=curve.lineage, until=until, horizon=until, random=True)

    observed = any(np.isfinite(v) for c in curves for v in c.values.values())
    if not observed or (may_begin and len(curves) < settings.start):
        return at_random()
    if rng.random() < settings.random:
        return at_random()

    new: list[Params] = []
    if may_begin and among is None:
        new = [encoding.sample(rng) for _ in range(settings.candidates)]
    elif may_begin and among is not None:
        new = [among[i] for i in np.sort(rng.permutation(len(among))[: settings.candidates])]
    lasts = [last_step_of(params) for params in new]
    last = max([c.last_step for c in curves] + lasts)
    model = Model(encoding, curves, direction, last, settings)
    steps = [pauses(curves[i]) for i in paused] + [grid(step) for step in lasts]
    horizon = int(rng.integers(1, len(grid(last)) + 1))
    ends = [s[min(horizon, len(s)) - 1] for s in steps]
    x = np.vstack([model.x[paused], encode_all(encoding, new)])
    mean, deviation = model.predict(x, ends, np.r_[paused, np.full(len(new), -1)].astype(np.intp))
    best = model.y.max() if settings.threshold == "observed" else model.seen().max()
    threshold = best + 3 * 10 ** rng.uniform(-4, -1)
    chosen = int(np.argmax((mean - threshold) / deviation))
    old = chosen < len(paused)
    return Decision(
        lineage=curves[paused[chosen]].lineage if old else None,
        params={} if old else new[chosen - len(paused)],
        until=steps[chosen][0],
        threshold=model.scale.back(float(threshold)),
        horizon=ends[chosen],
        mean=model.scale.back(float(mean[chosen])),
        deviation=float(deviation[chosen]) * model.scale.spread,
        random=False,
    )


def expected(
    space: Space, fixed: Params, curves: Sequence[Curve], *, direction: str
) -> dict[int, tuple[float, float]]:
    """For each lineage, mean and standard deviation of its value at its last step without noise.

    Both are in units of the metric. Empty while no finite value is reported.
    """
    curves = sorted(curves, key=lambda c: c.lineage)
    if not any(np.isfinite(v) for c in curves for v in c.values.values()):
        return {}
    model = Model(Encoding(space, fixed), curves, direction, max(c.last_step for c in curves))
    mean, deviation = model.predict(model.x, [c.last_step for c in curves], np.arange(len(curves)))
    return {
        c.lineage: (model.scale.back(float(m)), float(d) * model.scale.spread)
        for c, m, d in zip(curves, mean, deviation, strict=True)
    }


def reached(curve: Curve) -> int:
    """The last step reported, 0 where there is none."""
    return max(curve.values, default=0)


def pauses(curve: Curve) -> list[int]:
    """The steps at which it may still pause."""
    return [step for step in grid(curve.last_step) if step > reached(curve)]
