"""What the ends of trials are worth: their value, whether they are feasible, which are best."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

__all__ = ["best_of", "front_of", "is_feasible", "losses", "value_of"]


def value_of(trial: FrozenTrial) -> float | None:
    """The value of a trial's first metric; None where it has none."""
    return trial.values[0] if trial.values else None


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every constraint that was evaluated for it, as Optuna judges it."""
    return all(excess <= 0.0 for excess in trial.constraints.values())


def losses(values: Sequence[float], directions: Sequence[str]) -> tuple[float, ...]:
    """The values with their signs changed where a larger one is better."""
    return tuple(
        -value if direction == "maximize" else value
        for value, direction in zip(values, directions, strict=True)
    )


def best_of(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The feasible COMPLETE trial with the best value; of equal ones, the earliest.

    None where there is none. The trials have one value each.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    return max(
        (trial for trial in trials if _has_result(trial)),
        key=lambda trial: (sign * trial.values[0], -trial.number),
        default=None,
    )


def front_of(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    """The Pareto front of two metrics: the feasible COMPLETE trials that no other one betters.

    One trial betters another when it is better in one metric and not worse in the other. Equal
    ones are all on the front.

    Returns:
        The best by the first metric first.
    """
    ranked = sorted(
        (trial for trial in trials if _has_result(trial)),
        key=lambda trial: (*losses(trial.values, directions), trial.number),
    )
    front: list[FrozenTrial] = []
    for trial in ranked:
        loss = losses(trial.values, directions)
        last = losses(front[-1].values, directions) if front else None
        if last is None or loss[1] < last[1] or loss == last:
            front.append(trial)
    return front


def _has_result(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE and bool(trial.values) and is_feasible(trial)
