"""Which paused lineage continues, or whether a new one begins.

There are two rules. The second decides more often, the more noise the model finds in the curves.

- The most probable improver of a threshold at a horizon, both drawn at random: Rakotoarison et al.,
  "In-context freeze-thaw Bayesian optimization for hyperparameter optimization" (ifBO), arXiv
  2404.16795. Here the probability is divided by the square root of a step's seconds. Divided by the
  seconds themselves, expensive configurations hardly ever continue, even where they are better.
- The best of one draw of all final values: Thompson, "On the likelihood that one unknown
  probability exceeds another in view of the evidence of two samples", 1933. Several good curves
  then continue side by side. Under noise the first rule carries a few lucky ones to their ends.

Towards the end of the budget a paused lineage of which more is expected than of every complete one
is completed, before any decision that would leave too little of the budget for that.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.model import Model, seconds_per_step
from search.sampling.freeze_thaw.process import Rows
from search.sampling.freeze_thaw.records import Curve, Decision, Left, grid
from search.spec.space import Space

__all__ = ["decide", "expected"]

Params = Mapping[str, Any]

START = 10  # lineages that begin at random before the model decides
RANDOM = 0.05  # share of the decisions after them that are made at random
COST = 0.5  # the power of a step's seconds that a probability is divided by
CANDIDATES = 200  # new configurations that a decision considers
ENDLESS = Left()
LOW, HIGH = -4.0, -1.0  # the threshold is 3 * 10^u deviations above the best mean, u from here


def decide(
    space: Space,
    fixed: Params,
    curves: Sequence[Curve],
    *,
    direction: str,
    seed: int,
    may_begin: bool,
    last_step_of: Callable[[Params], int],
    left: Left = ENDLESS,
    among: Sequence[Params] | None = None,
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
        left: of the budget, for this worker.
        among: the only configurations that a new lineage may have; None for the whole space.
    """
    rng = np.random.default_rng(seed)
    curves = sorted(curves, key=lambda curve: curve.lineage)
    encoding = Encoding(space, fixed)
    may_begin = may_begin and (among is None or len(among) > 0)
    paused = [curve for curve in curves if curve.state == "paused" and _pauses(curve)]
    if not paused and not may_begin:
        return None

    def draw(n: int) -> list[Params]:
        if among is None:
            return list(encoding.sample(rng, n))
        return [among[i] for i in rng.permutation(len(among))[:n]]

    last = max((curve.last_step for curve in curves), default=1)
    model = cache(lambda: Model(encoding, curves, direction, last))
    known = any(np.isfinite(v) for curve in curves for v in curve.values.values())
    starting = may_begin and len(curves) < START
    if not known or starting or rng.random() < RANDOM:
        decision = _at_random(rng, paused, draw(1)[0] if may_begin else None, last_step_of)
    else:
        new = draw(CANDIDATES) if may_begin else []
        decision = _by_model(model(), encoding, curves, paused, new, last_step_of, rng)
    if not known or left == ENDLESS:
        return decision
    return _completing(model, encoding, curves, paused, decision, left) or decision


def _by_model(
    model: Model,
    encoding: Encoding,
    curves: Sequence[Curve],
    paused: Sequence[Curve],
    new: Sequence[Params],
    last_step_of: Callable[[Params], int],
    rng: np.random.Generator,
) -> Decision:
    """Continue a paused curve, or begin a new configuration, by one of the two rules."""
    steps = [_pauses(curve) for curve in paused]
    steps += [grid(last_step_of(params)) for params in new]
    rows = np.append(_rows(curves, paused), np.full(len(new), -1))
    x = np.vstack([model.x[rows[: len(paused)]], encoding.encode(new)])
    drawn = rng.random() < model.doubt
    pauses = len(grid(max(curve.last_step for curve in curves)))
    ahead = pauses - 1 if drawn else int(rng.integers(pauses))  # of the horizon, less one
    horizons = np.array([s[min(ahead, len(s) - 1)] for s in steps])
    mean, deviation = model.predict(x, horizons, rows)
    threshold = model.best()
    if drawn:
        scores = model.draw(x, horizons, rows, rng)
    else:
        threshold += 3.0 * 10.0 ** rng.uniform(LOW, HIGH)
        scores = log_ndtr((mean - threshold) / deviation)
        scores -= COST * seconds_per_step(encoding, curves, x)
    chosen = int(np.argmax(scores))
    return Decision(
        lineage=paused[chosen].lineage if chosen < len(paused) else None,
        params={} if chosen < len(paused) else new[chosen - len(paused)],
        until=steps[chosen][0],
        threshold=float(model.scale.back(np.array(threshold))),
        horizon=int(horizons[chosen]),
        mean=float(model.scale.back(mean[chosen])),
        deviation=float(model.scale.deviation(mean[chosen], deviation[chosen])),
        random=False,
    )


def _completing(
    model: Callable[[], Model],
    encoding: Encoding,
    curves: Sequence[Curve],
    paused: Sequence[Curve],
    decision: Decision,
    left: Left,
) -> Decision | None:
    """Complete a paused curve instead of a decision; None while the budget allows for both.

    Of the curves that can still be completed it is the one of which most is expected. It has to be
    expected to be better than every complete one.
    """
    after = left.after(*_cost(encoding, curves, decision))
    able = [c for c in paused if c.values and not left.after(*_missing(c)).overdrawn]
    late = [c for c in able if after.after(*_missing(c)).overdrawn]
    if not late:
        return None
    complete = [c for c in curves if c.state == "complete" and c.last_step in c.values]
    judged = [*able, *complete]
    rows = _rows(curves, judged)
    fitted = model()
    mean, deviation = fitted.predict(
        fitted.x[rows], np.array([curve.last_step for curve in judged]), rows
    )
    chosen = int(np.argmax(mean[: len(able)]))
    best = mean[len(able) :].max(initial=-np.inf)
    favourite = able[chosen]
    if mean[chosen] <= best or favourite not in late or favourite.lineage == decision.lineage:
        return None
    return Decision(
        lineage=favourite.lineage,
        until=favourite.last_step,
        threshold=float(fitted.scale.back(best)) if complete else None,
        horizon=favourite.last_step,
        mean=float(fitted.scale.back(mean[chosen])),
        deviation=float(fitted.scale.deviation(mean[chosen], deviation[chosen])),
        random=False,
        finishes=True,
    )


def _missing(curve: Curve) -> tuple[int, float]:
    """The steps that complete a curve, and seconds for each."""
    return curve.last_step - max(curve.values), curve.seconds_per_step or 0.0


def _cost(encoding: Encoding, curves: Sequence[Curve], decision: Decision) -> tuple[int, float]:
    """The steps that a decision takes, and seconds for each as far as they are known."""
    for curve in curves:
        if curve.lineage == decision.lineage:
            return decision.until - max(curve.values, default=0), curve.seconds_per_step or 0.0
    if all(curve.seconds_per_step is None for curve in curves):
        return decision.until, 0.0
    log = seconds_per_step(encoding, curves, encoding.encode([decision.params]))
    return decision.until, float(np.exp(log[0]))


def _rows(curves: Sequence[Curve], some: Sequence[Curve]) -> Rows:
    """Positions of some curves among all of them, (n,)."""
    position = {curve.lineage: i for i, curve in enumerate(curves)}
    return np.array([position[curve.lineage] for curve in some], dtype=np.intp)


def _at_random(
    rng: np.random.Generator,
    paused: Sequence[Curve],
    new: Params | None,
    last_step_of: Callable[[Params], int],
) -> Decision:
    """Begin a configuration that was drawn at random; without one, continue any lineage."""
    if new is not None:
        until = grid(last_step_of(new))[0]
        return Decision(lineage=None, params=new, until=until, horizon=until, random=True)
    curve = paused[int(rng.integers(len(paused)))]
    until = _pauses(curve)[0]
    return Decision(lineage=curve.lineage, until=until, horizon=until, random=True)


def expected(
    space: Space, fixed: Params, curves: Sequence[Curve], *, direction: str
) -> dict[int, tuple[float, float]]:
    """For each lineage, mean and standard deviation of its value at its last step without noise.

    Both are in units of the metric. Empty while no finite value is reported. For hopeless lineages
    the mean is too good: the model does not tell bad values apart.

    Args:
        space, fixed, curves, direction: as in `decide`.
    """
    curves = sorted(curves, key=lambda curve: curve.lineage)
    if not any(np.isfinite(v) for curve in curves for v in curve.values.values()):
        return {}
    lasts = np.array([curve.last_step for curve in curves])
    model = Model(Encoding(space, fixed), curves, direction, int(lasts.max()))
    mean, deviation = model.predict(model.x, lasts, np.arange(len(curves)))
    values, deviations = model.scale.back(mean), model.scale.deviation(mean, deviation)
    return {
        curve.lineage: (float(value), float(around))
        for curve, value, around in zip(curves, values, deviations, strict=True)
    }


def _pauses(curve: Curve) -> tuple[int, ...]:
    """The steps at which a curve may still pause, its last step included."""
    reached = max(curve.values, default=0)
    return tuple(step for step in grid(curve.last_step) if step > reached)
