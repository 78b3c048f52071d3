"""A study's lineages as the model of learning curves sees them, for decisions and for people."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.ledger import Row
from search.sampling.freeze_thaw import Curve
from search.sampling.freeze_thaw.records import State
from search.spec import StudySpec
from search.study.specs import Specs
from search.study.status import Paused

__all__ = ["Outlook", "curves", "paused_trials", "steps_under_way"]

#: Why trials end before their last step that say nothing against their curves.
NO_WORSE = (Reason.OUT_OF_BUDGET.value, Reason.BY_HAND.value)
SHARE = 0.05  # of the time goes into `Outlook` at most, as whoever watches asks every second


class Outlook:
    """What is expected of the lineages of one study, as its status shows it again and again."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float]] = {}
        self._seen: tuple[int, int] | None = None  # amendments and reports
        self._again = 0.0  # when it is worth while to look again

    def of(
        self, specs: Specs, rows: Sequence[Row], trials: Mapping[int, FrozenTrial]
    ) -> Mapping[int, tuple[float, float]]:
        """Mean and standard deviation of each lineage's value at its last step.

        They may be those of a moment ago.
        """
        spec, amendments = specs.present, len(specs.amendments)
        known = curves(spec, rows, trials, see=specs.since(amendments))
        seen = amendments, sum(len(curve.values) for curve in known)
        began = time.monotonic()
        if seen == self._seen or began < self._again:
            return self._known
        from search.sampling.freeze_thaw.decision import expected

        self._known = expected(spec.space, spec.fixed, known, direction=spec.direction)
        self._seen = seen
        self._again = time.monotonic() + (time.monotonic() - began) / SHARE
        return self._known

    def paused(
        self, specs: Specs, rows: Sequence[Row], trials: Sequence[FrozenTrial]
    ) -> list[Paused]:
        """The paused trials, see `paused_trials`."""
        numbered = {trial.number: trial for trial in trials}
        expected = self.of(specs, rows, numbered)
        return paused_trials(rows, numbered, expected, specs.present.direction)


def curves(
    spec: StudySpec,
    rows: Sequence[Row],
    trials: Mapping[int, FrozenTrial],
    *,
    asks: int | None = None,
    see: Callable[[FrozenTrial], FrozenTrial | None] | None = None,
) -> list[Curve]:
    """The lineages that have begun, without those of the control.

    Args:
        trials: by number.
        asks: the lineage whose worker asks whether it goes on: it counts as paused.
        see: how a trial is seen by this spec, None: not at all; see `Specs.since`.
    """
    return [
        _curve(row, trial, asks=row.lineage == asks, timed=spec.hours is not None)
        for row in rows
        if not spec.is_control(row.lineage)
        and row.trial is not None
        and (trial := trials.get(row.trial)) is not None
        and (trial := trial if see is None else see(trial)) is not None
    ]


def _curve(row: Row, trial: FrozenTrial, *, asks: bool, timed: bool) -> Curve:
    last_step = int(trial.user_attrs[attributes.LAST_STEP])
    state = "paused" if asks else _state(row, trial)
    return Curve(
        lineage=row.lineage,
        # A trial that was just claimed has no parameters yet, but those that it will be given.
        params={**trial.system_attrs.get(attributes.FIXED_PARAMS, {}), **trial.params},
        values={step: x for step, x in trial.intermediate_values.items() if step > 0},
        last_step=last_step,
        state=state,
        until=(row.pause_at or last_step) if state == "running" else None,
        seconds_per_step=_seconds_per_step(trial) if timed else None,
    )


def _state(row: Row, trial: FrozenTrial) -> State:
    """An interrupted lineage counts as running: it goes on before any decision.

    One that was paused when the budget was used up, or that somebody stopped, is no worse for it,
    and never goes on.
    """
    if row.paused:
        return "paused"
    if not row.done:
        return "running"
    no_worse = trial.user_attrs.get(attributes.REASON) in NO_WORSE
    return "complete" if no_worse or trial.state is TrialState.COMPLETE else "ended"


def steps_under_way(
    rows: Sequence[Row],
    trials: Mapping[int, FrozenTrial],
    last_step_of: Callable[[FrozenTrial], int],
    *,
    asks: int | None = None,
) -> int:
    """The steps that trials which run or were interrupted will still take.

    Those of the control, and those outside of an amended space, are among them.

    Args:
        trials, asks: as in `curves`.
        last_step_of: the step that completes a trial of the control.
    """
    steps = 0
    for row in rows:
        trial = None if row.trial is None else trials.get(row.trial)
        if row.done or row.paused or row.lineage == asks or trial is None:
            continue
        until = row.pause_at or trial.user_attrs.get(attributes.LAST_STEP)
        if until is None and trial.params:  # of the control; one without any was claimed just now
            until = last_step_of(trial)
        steps += max(0, (until or 0) - max(trial.intermediate_values, default=0))
    return steps


def _seconds_per_step(trial: FrozenTrial) -> float | None:
    """The mean over the recorded steps; None where they are not timed.

    Only a budget of hours times them: with a budget of steps alone each step costs the same, and a
    study does not depend on the machine, also where an amendment removed its hours.
    """
    seconds = trial.user_attrs.get(attributes.STEP_SECONDS)
    steps = trial.intermediate_values
    return sum(seconds) / len(seconds) if seconds and steps else None


def paused_trials(
    rows: Sequence[Row],
    trials: Mapping[int, FrozenTrial],
    expected: Mapping[int, tuple[float, float]],
    direction: str,
) -> list[Paused]:
    """The paused trials, those of which most is expected first.

    Args:
        trials: by number.
        expected: mean and standard deviation of a lineage's value at its last step, where known.
    """
    found = [
        _paused(row, trials[row.trial], *expected.get(row.lineage, (None, None)))
        for row in rows
        if row.paused and row.trial is not None and row.trial in trials
    ]
    sign = 1.0 if direction == "maximize" else -1.0

    def promise(one: Paused) -> float:
        value = one.value if one.expected is None else one.expected
        return -math.inf if value is None or math.isnan(value) else sign * value

    return sorted(found, key=promise, reverse=True)


def _paused(
    row: Row, trial: FrozenTrial, expected: float | None, deviation: float | None
) -> Paused:
    steps = trial.intermediate_values
    return Paused(
        lineage=row.lineage,
        number=trial.number,
        name=trial.user_attrs.get(attributes.NAME),
        step=max(steps, default=0),
        value=steps[max(steps)] if steps else None,
        expected=expected,
        deviation=deviation,
        params=trial.params,
    )
