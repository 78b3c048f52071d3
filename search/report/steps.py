"""What a report says of steps: how early they tell, and how a study of freeze-thaw spent them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.report.facts import Point

__all__ = ["Expectation", "Regret", "Stretch", "agreement", "expectations", "regrets", "stretches"]

RANKED = 5  # complete trials, fewer have no order worth a figure


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The steps of one trial between two decisions.

    Attributes:
        trial: its number.
        first, last: steps that ran, both included.
        at: the steps that the study's other decisions had spent before.
        random: whether the decision was made at random, without the model.
    """

    trial: int
    first: int
    last: int
    at: int
    random: bool


def stretches(trials: Sequence[FrozenTrial]) -> list[Stretch]:
    """In the order of the decisions. The control's trials are not decided upon and not here."""
    decided = []
    for trial in trials:
        reached = max(trial.intermediate_values, default=0)
        before = 0
        for one in sorted(trial.user_attrs.get(attributes.DECISIONS, []), key=_number):
            until = min(int(one["until"]), reached)
            if until > before:
                decided.append((_number(one), trial.number, before + 1, until, bool(one["random"])))
                before = until
        if decided and decided[-1][1] == trial.number and reached > before:
            # The last decision let it run to its end, or beyond the pause that was foreseen.
            number, _, first, _, random = decided.pop()
            decided.append((number, trial.number, first, reached, random))
    found, spent = [], 0
    for _, trial_number, first, last, random in sorted(decided):
        found.append(Stretch(trial=trial_number, first=first, last=last, at=spent, random=random))
        spent += last - first + 1
    return found


def _number(decision: dict[str, int]) -> int:
    return int(decision["number"])


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the model expected of a trial when it let it begin or go on.

    Attributes:
        step: that it had reached.
        horizon: the step that the model looked at.
        mean, deviation: of the value there.
    """

    step: int
    horizon: int
    mean: float
    deviation: float


def expectations(trial: FrozenTrial) -> list[Expectation]:
    """Of each decision on the trial that the model made; in their order."""
    found, step = [], 0
    for one in sorted(trial.user_attrs.get(attributes.DECISIONS, []), key=_number):
        if not one["random"]:
            found.append(
                Expectation(
                    step=step,
                    horizon=int(one["horizon"]),
                    mean=float(one["mean"]),
                    deviation=float(one["deviation"]),
                )
            )
        step = int(one["until"])
    return found


def agreement(trials: Sequence[FrozenTrial]) -> tuple[dict[int, float], int]:
    """Step -> Spearman's rank correlation of the values there with the last; of how many trials.

    Only of complete trials, and at steps that all of those report. Trials that ran on against the
    pruner (control, audit) make the figure honest; without them it is of the chosen ones alone.
    """
    from scipy.stats import spearmanr

    complete = [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.intermediate_values
        and all(math.isfinite(value) for value in trial.intermediate_values.values())
    ]
    if len(complete) < RANKED:
        return {}, len(complete)
    last = np.array([trial.value for trial in complete], dtype=float)
    steps = set.intersection(*(set(trial.intermediate_values) for trial in complete))
    found = {}
    for step in sorted(steps):
        values = np.array([trial.intermediate_values[step] for trial in complete])
        if len(set(values)) > 1 and len(set(last)) > 1:
            found[step] = float(spearmanr(values, last).statistic)
    return found, len(complete)


@dataclass(frozen=True, kw_only=True)
class Regret:
    """How far behind the best value known the best so far was.

    Attributes:
        seconds: of training that its arm had spent, ascending.
        values: the distance from then on, not negative.
    """

    seconds: Sequence[float]
    values: Sequence[float]


def regrets(points: Sequence[Point], direction: str) -> dict[bool, Regret]:
    """Of the search (False) and of the control (True); an arm without a complete trial is left out.

    Args:
        points: as `facts.history(..., as_pruned=True)` gives them. The best value is over both
            arms.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    known = [sign * point.value for point in points if point.complete]
    found = {}
    for control in (False, True):
        seconds, values, spent, best = [], [], 0.0, -math.inf
        for point in points:
            if point.control is not control:
                continue
            spent += point.training_seconds
            if point.complete and sign * point.value > best:
                best = sign * point.value
                seconds.append(spent)
                values.append(max(known) - best)
        if seconds:
            found[control] = Regret(seconds=[*seconds, spent], values=[*values, values[-1]])
    return found
