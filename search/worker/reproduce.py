"""Runs a trial again from what is stored, and compares every figure."""

import math
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.errors import NoResult, ProblemError, SearchError
from search.outcome import value_of
from search.problem import Diverged, TrialPruned
from search.study import Study
from search.study.confirmation.repeats import problem_of
from search.study.load_problem import labels_of
from search.text import describe_error
from search.worker.trial_run import checked_report

__all__ = ["Epoch", "Replay", "differences", "reproduce", "same"]


def same(stored: float | None, new: float | None) -> bool:
    """Whether two figures are equal to the last bit; NaN equals NaN, None equals None."""
    if stored is None or new is None:
        return stored is new
    return stored == new or (math.isnan(stored) and math.isnan(new))


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One step of a reproduction: name -> (stored, new); None where one side lacks it."""

    step: int
    figures: Mapping[str, tuple[float | None, float | None]]

    @property
    def identical(self) -> bool:
        """Whether every figure is equal on both sides, to the last bit."""
        return all(same(stored, new) for stored, new in self.figures.values())


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The outcome of a reproduction.

    Attributes:
        value: (stored, new); for a trial that ended without a value, the metric at its last step.
        environment: what differs: key -> (stored, here).
    """

    trial: FrozenTrial
    epochs: tuple[Epoch, ...]
    value: tuple[float | None, float | None]
    environment: Mapping[str, tuple[str, str]]

    @property
    def identical(self) -> bool:
        """Whether every figure of every step and the value are equal."""
        return same(*self.value) and all(epoch.identical for epoch in self.epochs)


#: Suffixes of timing metrics, which are not compared.
_TIMINGS = ("seconds", "per_second")


def reproduce(
    study: Study, number: int | None = None, on_epoch: Callable[[Epoch], None] = lambda epoch: None
) -> Replay:
    """Run a trial again from what is stored: parameters, seed, threads, data, split.

    Call it before the problem's libraries are imported, as the number of threads is read then.

    Args:
        number: of the trial; None for the best.
        on_epoch: called after each step.

    Raises:
        NoResult: the trial recorded no step that could be compared.
        ProblemError: the data here are not those of the study, or the problem's code failed.
        SearchError: another program made the trial, or the memory here is too small for it.
    """
    trial = study.trial(number)
    if attributes.LINEAGE not in trial.user_attrs:
        raise SearchError(
            f"trial {trial.number} of study {study.name!r} was made by another program, so its "
            "seed is unknown and it cannot be run again; choose another with --trial"
        )
    if not trial.intermediate_values:
        raise NoResult(
            f"trial {trial.number} of study {study.name!r} recorded no step, so there is nothing "
            "to compare; choose another with --trial"
        )
    stored_environment = trial.user_attrs.get(attributes.ENVIRONMENT, {})
    os.environ["OMP_NUM_THREADS"] = str(stored_environment.get("threads", "1"))
    replay = _ReplayRun(study, trial, on_epoch)
    value = _run(study, replay)
    steps, stored = trial.intermediate_values, value_of(trial)
    return Replay(
        trial=trial,
        epochs=tuple(replay.epochs),
        value=(steps[max(steps)] if stored is None else stored, value),
        environment=differences(
            stored_environment, labels_of(study.problem, study.spec.problem, "environment")
        ),
    )


def _run(study: Study, replay: "_ReplayRun") -> float | None:
    lineage = int(replay.trial.user_attrs[attributes.LINEAGE])
    try:
        problem = problem_of(study.problem, study.specs.of(replay.trial), lineage)
        returned = problem.run(replay)
        value = float(returned[study.spec.metric] if isinstance(returned, Mapping) else returned)
        if not math.isfinite(value):  # which ends a trial as diverged
            raise Diverged
        return value
    except (TrialPruned, Diverged):
        return None if replay.trial.state is TrialState.COMPLETE else replay.last_value
    except SearchError:
        raise
    except MemoryError as error:
        raise SearchError(
            f"the memory here is too small to run the trial again: {describe_error(error)}; "
            "run it on a larger machine, or choose another with --trial"
        ) from error
    except (Exception, SystemExit) as error:
        failed = ProblemError(
            f"the problem failed when the trial was run again: {describe_error(error)}; "
            "correct its code (traceback above)"
        )
        failed.add_note("".join(traceback.format_exception(error)).rstrip())
        raise failed from error


def differences(
    stored: Mapping[str, str], here: Mapping[str, str]
) -> Mapping[str, tuple[str, str]]:
    """What differs between two environments: key -> (stored, here), "none" where one lacks it."""
    return {
        key: (stored.get(key, "none"), here.get(key, "none"))
        for key in sorted(stored.keys() | here.keys())
        if stored.get(key) != here.get(key)
    }


class _ReplayRun:
    """A `TrialContext` that compares with the stored trial and ends where that ended."""

    should_stop = False

    def __init__(self, study: Study, trial: FrozenTrial, on_epoch: Callable[[Epoch], None]) -> None:
        self.params: Mapping[str, Any] = study.params(trial)
        self.wanted = study.spec.wanted
        self.seed = study.spec.trial_seed(trial.user_attrs[attributes.LINEAGE])
        self.epochs: list[Epoch] = []
        self.last_value: float | None = None
        self.checkpoint: bytes | None = None
        self.trial = trial
        self._metric = study.spec.metric
        self._on_epoch = on_epoch
        self._last = max(trial.intermediate_values)

    def load_checkpoint(self) -> bytes | None:
        return None

    def save_checkpoint(self, data: bytes) -> None:
        self.checkpoint = data

    def report(self, step: int, value: float, **curves: float) -> None:
        step, value, new_figures = checked_report(step, value, curves)
        if any(one.step == step for one in self.epochs):  # a trial passes it over, too
            return
        self.last_value = value
        stored = self._stored(step)
        figures: dict[str, tuple[float | None, float | None]] = {
            self._metric: (self.trial.intermediate_values.get(step), value)
        }
        for name, new in new_figures.items():
            if not name.endswith(_TIMINGS) and name != self._metric:
                # A curve is stored as JSON, with null for what is no finite number.
                figures[name] = (stored.get(name), new if math.isfinite(new) else None)
        epoch = Epoch(step=step, figures=figures)
        self.epochs.append(epoch)
        self._on_epoch(epoch)
        if step == self._last and self.trial.state is not TrialState.COMPLETE:
            raise TrialPruned

    def _stored(self, step: int) -> dict[str, float | None]:
        curves = self.trial.user_attrs.get(attributes.CURVES, {})
        steps = curves.get("step", [])
        if step not in steps:
            return {}
        return {name: column[steps.index(step)] for name, column in curves.items()}
