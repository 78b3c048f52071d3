"""What a tracker is told of a trial that has ended; it never changes again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.study import Study
from search.study.rows import utc

__all__ = ["Bundle", "Origin", "Sink", "TrackedTrial", "Unwritten", "tracked"]

_TAGS = (attributes.NAME, attributes.REASON, attributes.ARM, attributes.WORKER, attributes.LINEAGE,
         attributes.AMENDMENT, attributes.RETRY_OF, attributes.DUPLICATE_OF)  # fmt: skip


class Unwritten(Exception):
    """A tracker could not take something; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The study that trials come from."""

    name: str
    uid: str
    spec: str  # hash of its study file


@dataclass(frozen=True, kw_only=True)
class TrackedTrial:
    """A trial that has ended.

    Attributes:
        state: "complete", "pruned" or "fail".
        began, ended: seconds since 1970.
        params: every parameter, `[fixed]` included.
        curves: name -> (step, value), in order of the steps; the study's metric among them.
        final: name -> value at its end: what is aimed at, and what constraints need.
        tags: reason, worker, versions and so on.
    """

    number: int
    state: str
    began: float
    ended: float
    params: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    final: Mapping[str, float]
    tags: Mapping[str, str]

    def params_and(self, **more: Any) -> dict[str, Any]:
        """The parameters and something else; where a parameter has its name, as `trial.NAME`."""
        found = dict(self.params)
        for name, value in more.items():
            free = name
            while free in found:
                free = f"trial.{free}"
            found[free] = value
        return found

    def points(self) -> Iterator[tuple[str, int, float, float]]:
        """(name, step, value, seconds since 1970) of every curve; the times are evenly spread."""
        last = max((curve[-1][0] for curve in self.curves.values() if curve), default=1) or 1
        for name, curve in self.curves.items():
            for step, value in curve:
                yield name, step, value, self.began + (self.ended - self.began) * step / last


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The exported folder of a trial."""

    trial: int
    path: Path


class Sink(Protocol):
    """A tracker that is open for one study."""

    def known(self) -> set[int]:
        """The numbers of the trials that were written before, whole.

        Raises:
            Unwritten: the tracker is away, or refuses.
        """
        ...

    def write(self, trial: TrackedTrial) -> None:
        """Write a trial, whole or so that the next `known` does not name it; else as `known`."""
        ...

    def attach(self, bundle: Bundle) -> None:
        """Attach a folder to a trial that was written, unless it is there; else as `known`."""
        ...


def tracked(study: Study, trial: FrozenTrial) -> TrackedTrial:
    """What trackers are told of a trial that has ended."""
    attrs = trial.user_attrs
    stored = dict(attrs.get(attributes.CURVES, {}))
    steps = stored.pop("step", [])
    curves = {name: _finite(zip(steps, values, strict=False)) for name, values in stored.items()}
    curves[study.spec.metric] = _finite(sorted(trial.intermediate_values.items()))
    final = dict(attrs.get(attributes.METRICS, {}))
    if trial.state is TrialState.COMPLETE:
        final |= dict(zip(study.spec.metrics, trial.values or (), strict=False))
    tags = {name: str(attrs[name]) for name in _TAGS if name in attrs}
    tags |= {
        f"environment.{name}": str(value)
        for name, value in attrs.get(attributes.ENVIRONMENT, {}).items()
    }
    tags |= {
        f"constraint.{name}": "kept" if excess <= 0 else "broken"
        for name, excess in trial.constraints.items()
    }
    began = trial.datetime_start or trial.datetime_complete
    assert began is not None and trial.datetime_complete is not None, "it has ended"
    return TrackedTrial(
        number=trial.number,
        state=trial.state.name.lower(),
        began=utc(began).timestamp(),
        ended=utc(trial.datetime_complete).timestamp(),
        params=study.params(trial),
        curves={name: curve for name, curve in curves.items() if curve},
        final={name: value for name, value in final.items() if _is_finite(value)},
        tags=tags,
    )


def _finite(points: Any) -> list[tuple[int, float]]:
    return [(int(step), float(value)) for step, value in points if _is_finite(value)]


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
