"""Two trials of a study side by side: parameters, curves, environment, cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.attributes import Reason
from search.ledger import Attempt
from search.ledger.records import How
from search.study.rows import seconds, worked_seconds
from search.study.study import Study

__all__ = ["Cost", "TrialPair", "pair_of"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial took, over all attempts at it.

    Attributes:
        seconds: of work; None until the trial has ended.
        workers: that were at work on it, each once, the first one first.
        stopped: attempts that were released or paused, after which the trial went on.
        lost: attempts at its lineage whose worker died.
    """

    steps: int
    seconds: float | None
    attempts: int
    stopped: int
    lost: int
    workers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrialPair:
    """Two trials, each value as (of the first, of the second); None where one has none.

    Attributes:
        metrics: what was recorded beside the curves, where the study has two metrics or
            constraints.
        params: every parameter of either, `[fixed]` included.
        curves: name -> step -> values, at the steps that both have recorded; the metric first.
        last: name -> (step, value) of each one's last step.
        environment: what was recorded of processor, versions and threads and differs.
        cost: what each took.
    """

    trials: tuple[FrozenTrial, FrozenTrial]
    metrics: Mapping[str, tuple[float | None, float | None]]
    params: Mapping[str, tuple[Any, Any]]
    curves: Mapping[str, Mapping[int, tuple[float | None, float | None]]]
    last: Mapping[str, tuple[tuple[int, float | None] | None, tuple[int, float | None] | None]]
    environment: Mapping[str, tuple[Any, Any]]
    cost: tuple[Cost, Cost]

    def differs(self, name: str) -> bool:
        """Whether the two have another value for a parameter."""
        one, other = self.params[name]
        return bool(one != other)


def pair_of(study: Study, first: int, second: int) -> TrialPair:
    """Two trials, by their numbers.

    Raises:
        SearchError: there is no trial of that number.
    """
    trials = study.trial(first), study.trial(second)
    curves = _curves(trials[0], study.spec.metric), _curves(trials[1], study.spec.metric)
    attempts = study.ledger.attempts()
    names = list(dict.fromkeys([*curves[0], *curves[1]]))
    return TrialPair(
        trials=trials,
        metrics=_joined(*(trial.user_attrs.get(attributes.METRICS, {}) for trial in trials)),
        params=_joined(study.params(trials[0]), study.params(trials[1])),
        curves={
            name: {
                step: (curves[0][name][step], curves[1][name][step])
                for step in sorted(curves[0].get(name, {}).keys() & curves[1].get(name, {}).keys())
            }
            for name in names
        },
        last={name: (_last(curves[0], name), _last(curves[1], name)) for name in names},
        environment={
            key: values
            for key, values in _joined(
                *(trial.user_attrs.get(attributes.ENVIRONMENT, {}) for trial in trials)
            ).items()
            if values[0] != values[1]
        },
        cost=(_cost(trials[0], attempts), _cost(trials[1], attempts)),
    )


def _joined(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[Any | None, Any | None]]:
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names}


def _curves(trial: FrozenTrial, metric: str) -> dict[str, dict[int, float | None]]:
    """Name -> step -> value; the metric first."""
    found: dict[str, dict[int, float | None]] = {metric: dict(trial.intermediate_values)}
    stored = dict(trial.user_attrs.get(attributes.CURVES, {}))
    steps = stored.pop("step", [])
    for name, values in stored.items():
        found.setdefault(name, dict(zip(steps, values, strict=False)))
    return found


def _last(
    curves: Mapping[str, Mapping[int, float | None]], name: str
) -> tuple[int, float | None] | None:
    curve = curves.get(name)
    return (max(curve), curve[max(curve)]) if curve else None


def _cost(trial: FrozenTrial, attempts: list[Attempt]) -> Cost:
    mine = [each for each in attempts if each.trial == trial.number]
    lineage = trial.user_attrs.get(attributes.LINEAGE)
    return Cost(
        steps=max(trial.intermediate_values, default=0),
        seconds=seconds(trial, worked_seconds(mine)),
        attempts=len(mine),
        stopped=sum(each.how in (Reason.STOPPED.value, How.PAUSED.value) for each in mine),
        lost=sum(e.lineage == lineage and e.how == Reason.LOST.value for e in attempts),
        workers=tuple(dict.fromkeys(each.worker for each in mine if each.worker)),
    )
