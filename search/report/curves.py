"""What a trial reports step by step besides its value: its further curves, singly and in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from optuna.trial import FrozenTrial

from search import attributes
from search.cross_validation import FOLD_SCORE, FOLD_TRAIN_SCORE

__all__ = ["Pair", "curve", "curve_pairs", "fit_of"]


def curve(trial: FrozenTrial, name: str) -> dict[int, float]:
    """Step -> value of one of a trial's further curves; steps without a number are left out."""
    curves = trial.user_attrs.get(attributes.CURVES, {})
    values = curves.get(name, [])
    return {
        step: value
        for step, value in zip(curves.get("step", []), values, strict=False)
        if value is not None
    }


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two curves that tell what was learnt from what was remembered, by their names."""

    name: str  # of what they measure
    train: str
    validation: str


def curve_pairs(trials: Sequence[FrozenTrial], metric: str) -> list[Pair]:
    """The pairs `train_X`, `val_X` that trials report, by X; or the scores of folds."""
    names = {name for trial in trials for name in trial.user_attrs.get(attributes.CURVES, {})}
    suffixes = {name.removeprefix("train_") for name in names if name.startswith("train_")}
    pairs = [
        Pair(name=name, train=f"train_{name}", validation=f"val_{name}")
        for name in sorted(suffixes)
        if f"val_{name}" in names
    ]
    if {FOLD_SCORE, FOLD_TRAIN_SCORE} <= names:
        pairs.append(Pair(name=metric, train=FOLD_TRAIN_SCORE, validation=FOLD_SCORE))
    return pairs


def fit_of(trial: FrozenTrial, metric: str) -> tuple[float, float] | None:
    """The metric on training and on validation data, where the trial has its value from.

    That is the last step, or with patience the best one; of a cross-validated trial the means over
    its folds. None where it is not recorded.
    """
    for pair in curve_pairs([trial], metric):
        train, validation = curve(trial, pair.train), curve(trial, pair.validation)
        if not train or not validation:
            continue
        if pair.validation == FOLD_SCORE:
            return fmean(train.values()), fmean(validation.values())
        if pair.validation == metric:
            own, last = trial.values or (), max(validation)
            steps = [last, *(step for step in validation if validation[step] in own)]
            step = next((step for step in steps if validation[step] in own), last)
            return (train[step], validation[step]) if step in train else None
    return None
