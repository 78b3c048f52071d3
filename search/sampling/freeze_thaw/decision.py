"""Which paused lineage continues, or whether a new one begins.

Values at the last step are judged, those of paused lineages and of new configurations alike. There
are two rules. The second decides more often, the more noise the model finds in the curves.

- The greatest expected improvement on the best expected value of all lineages: Jones, Schonlau,
  Welch, "Efficient global optimization of expensive black-box functions", 1998. Here it is divided
  by the square root of a step's seconds. Divided by the seconds themselves, expensive
  configurations hardly ever continue, even where they are better.
- The best of one draw of all values: Thompson, "On the likelihood that one unknown probability
  exceeds another in view of the evidence of two samples", 1933. Several good curves then continue
  side by side. Where the budget has room for a few trials only, it decides less often.

Neither rule considers what can no longer be completed with what is left of the budget. Where
nothing can, the search is over, if it has a complete lineage. If it has none, both rules consider
all: the best paused lineage will be completed beyond the budget.

The favourite is the paused lineage of which most is expected. If the chosen decision would leave
too little to complete it, and it is expected to be better than every complete lineage, it is
completed instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search.sampling.freeze_thaw.encoding import Encoding
from search.sampling.freeze_thaw.improvement import log_expected_improvement
from search.sampling.freeze_thaw.model import Model, seconds_per_step
from search.sampling.freeze_thaw.process import Array, Rows
from search.sampling.freeze_thaw.records import Curve, Decision, Left, grid
from search.spec.space import Space

__all__ = ["decide", "expected"]

Params = Mapping[str, Any]
Flags = npt.NDArray[np.bool_]

START = 10  # lineages that begin at random before the model decides
RANDOM = 0.05  # share of the decisions after them that are made at random
COST = 0.5  # the power of a step's seconds that an improvement is divided by
AMPLE = 30.0  # with room in the budget for fewer whole trials, fewer decisions are draws
CANDIDATES = 200  # new configurations that a decision considers
ENDLESS = Left()


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
    """What a free worker does next; None when nothing is worth beginning or continuing.

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

    known = any(np.isfinite(v) for curve in curves for v in curve.values.values())
    starting = may_begin and len(curves) < START
    at_random = not known or starting or rng.random() < RANDOM
    new = draw(CANDIDATES) if may_begin else []
    candidates = _Candidates.of(encoding, curves, paused, new, last_step_of)
    fit = candidates.fit(left)
    if not fit.any() and any(_is_complete(curve) for curve in curves):
        return None
    within = fit if fit.any() else np.ones(len(fit), dtype=bool)
    if at_random:
        chosen, figures = _at_random(rng, candidates, np.flatnonzero(within))
        return candidates.decision(chosen, **figures)
    model = Model(encoding, curves, direction)
    workers = 1 + sum(curve.state == "running" for curve in curves)
    drawn = model.doubt * min(1.0, candidates.room(left, workers) / AMPLE)
    chosen, figures = _by_model(rng, model, candidates, within, drawn)
    completing = _completing(model, curves, candidates, chosen, left)
    return completing or candidates.decision(chosen, **figures)


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """The paused curves, and after them the new configurations; m in all.

    Attributes:
        x: (m, d) encoded configurations.
        rows: (m,) positions of the curves among all of them, -1 for new ones.
        reached: (m,) steps reported.
        steps: of each, those at which it may pause, its last one included.
        seconds: (m,) that a step takes; zeros where nothing is known of it.
    """

    paused: Sequence[Curve]
    new: Sequence[Params]
    x: Array
    rows: Rows
    reached: Rows
    steps: Sequence[tuple[int, ...]]
    seconds: Array

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        curves: Sequence[Curve],
        paused: Sequence[Curve],
        new: Sequence[Params],
        last_step_of: Callable[[Params], int],
    ) -> "_Candidates":
        x = encoding.encode([*(curve.params for curve in paused), *new])
        seconds = seconds_per_step(encoding, curves, x)
        for i, curve in enumerate(paused):
            seconds[i] = curve.seconds_per_step or seconds[i]
        position = {curve.lineage: i for i, curve in enumerate(curves)}
        return cls(
            paused=paused,
            new=new,
            x=x,
            rows=np.array([position[c.lineage] for c in paused] + [-1] * len(new), dtype=np.intp),
            reached=np.array([max(c.values, default=0) for c in paused] + [0] * len(new)),
            steps=[_pauses(c) for c in paused] + [grid(last_step_of(params)) for params in new],
            seconds=seconds,
        )

    def fit(self, left: Left) -> Flags:
        """Whether each can be completed with what is left, (m,)."""
        missing = np.array([steps[-1] for steps in self.steps]) - self.reached
        fit: Flags = (missing <= left.steps) & (missing * self.seconds <= left.seconds)
        return fit

    def room(self, left: Left, workers: int) -> float:
        """How many whole trials of median length and speed fit in what is left for all workers."""
        steps = float(np.median([steps[-1] for steps in self.steps]))
        seconds = steps * float(np.median(self.seconds))
        return min(left.steps / steps, workers * left.seconds / seconds if seconds else np.inf)

    def decision(self, chosen: int, **figures: Any) -> Decision:
        """Begin one or continue it, to its next pause where the figures name no other step."""
        begins = chosen >= len(self.paused)
        until = self.steps[chosen][0]
        return Decision(
            lineage=None if begins else self.paused[chosen].lineage,
            params=self.new[chosen - len(self.paused)] if begins else {},
            **{"until": until, "horizon": until, **figures},
        )


def _at_random(
    rng: np.random.Generator, candidates: _Candidates, among: Rows
) -> tuple[int, dict[str, Any]]:
    """Begin a configuration that was drawn at random; without one, continue any lineage.

    Returns:
        Which of the candidates, and the figures of the decision.
    """
    new = among[among >= len(candidates.paused)]
    return int(new[0] if len(new) else rng.choice(among)), {"random": True}


def _by_model(
    rng: np.random.Generator,
    model: Model,
    candidates: _Candidates,
    within: Flags,
    drawn: float,
) -> tuple[int, dict[str, Any]]:
    """Continue a paused curve, or begin a new configuration, by one of the two rules.

    Args:
        within: which of the candidates may be chosen, (m,).
        drawn: the share of the decisions that follow a draw.

    Returns:
        As above.
    """
    lasts = np.array([steps[-1] for steps in candidates.steps])
    mean, deviation = model.predict(candidates.x, lasts, candidates.rows)
    threshold = model.finals()[0].max()
    if rng.random() < drawn:
        scores = model.draw(candidates.x, lasts, candidates.rows, rng)
    else:
        scores = log_expected_improvement(mean - threshold, deviation)
        if candidates.seconds.all():
            scores -= COST * np.log(candidates.seconds)
    chosen = int(np.argmax(np.where(within, scores, -np.inf)))
    return chosen, {
        "threshold": float(model.scale.back(threshold)),
        "horizon": int(lasts[chosen]),
        "mean": float(model.scale.back(mean[chosen])),
        "deviation": float(model.scale.deviation(mean[chosen], deviation[chosen])),
        "random": False,
    }


def _completing(
    model: Model,
    curves: Sequence[Curve],
    candidates: _Candidates,
    chosen: int,
    left: Left,
) -> Decision | None:
    """Complete the favourite instead of what was chosen; None where the budget allows for both.

    The favourite is the paused curve of which most is expected, of those that can be completed.
    Nothing is completed that is not expected to be better than every complete curve.
    """
    step = candidates.steps[chosen][0] - int(candidates.reached[chosen])
    paused = np.arange(len(candidates.paused))
    able = candidates.fit(left)[paused]
    late = able & ~candidates.fit(left.after(step, candidates.seconds[chosen]))[paused]
    if not late.any():
        return None
    rows = candidates.rows[paused]
    mean, deviation = model.finals()
    favourite = int(np.argmax(np.where(able, mean[rows], -np.inf)))
    complete = [_is_complete(curve) for curve in curves]
    best = mean[complete].max(initial=-np.inf)
    row = int(rows[favourite])
    if favourite == chosen or not late[favourite] or mean[row] <= best:
        return None
    return candidates.decision(
        favourite,
        until=curves[row].last_step,
        horizon=curves[row].last_step,
        threshold=float(model.scale.back(best)) if any(complete) else None,
        mean=float(model.scale.back(mean[row])),
        deviation=float(model.scale.deviation(mean[row], deviation[row])),
        random=False,
        finishes=True,
    )


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
    model = Model(Encoding(space, fixed), curves, direction)
    mean, deviation = model.finals()
    values, deviations = model.scale.back(mean), model.scale.deviation(mean, deviation)
    return {
        curve.lineage: (float(value), float(around))
        for curve, value, around in zip(curves, values, deviations, strict=True)
    }


def _is_complete(curve: Curve) -> bool:
    return curve.state == "complete" and curve.last_step in curve.values


def _pauses(curve: Curve) -> tuple[int, ...]:
    """The steps at which a curve may still pause, its last step included."""
    reached = max(curve.values, default=0)
    return tuple(step for step in grid(curve.last_step) if step > reached)
