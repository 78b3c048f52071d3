"""The rules of a budget that end a search before all its trials have ended."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.ledger import Ledger, RuleEnd, look
from search.outcome import is_feasible
from search.sampling.freeze_thaw import Left
from search.spec import StudySpec
from search.text import clock, counted, figure

__all__ = ["Met", "ended_by", "find_met", "left", "left_of", "out_of_reach", "used_up"]


@dataclass(frozen=True, kw_only=True)
class Met:
    """A stop rule that holds.

    Attributes:
        rule: the key of the study file, "target" or "patience".
        trial: the number of the best trial.
        text: in words.
    """

    rule: str
    trial: int
    text: str


def ended_by(
    ledger: Ledger,
    spec: StudySpec,
    finished: Callable[[], Sequence[FrozenTrial]],
    *,
    amendment: int,
    since: int,
) -> RuleEnd | None:
    """The rule that ended a study; one that holds now is recorded.

    Args:
        finished: returns the trials that have ended.
        amendment: the number of the last one.
        since: that of the last one which changes the search.
    """
    found = ledger.standing().ended_by
    if found is not None or (spec.target is None and spec.patience is None):
        return found
    ended = ledger.storage.read(lambda session: look.ended(session, ledger.scope))
    met = find_met(spec, finished(), ended, since=since)
    if met is None:
        return None
    return ledger.end_by(met.rule, met.trial, met.text, amendment=amendment)


def used_up(ledger: Ledger, spec: StudySpec) -> bool:
    """Whether the hours or the steps of the budget are used up."""
    if spec.hours is not None and ledger.elapsed() >= spec.hours * 3600:
        return True
    return spec.steps is not None and ledger.steps() >= spec.steps


def left(ledger: Ledger, spec: StudySpec, under_way: int = 0) -> Left:
    """What is left of the hours and steps of the budget for a worker that is free now.

    Args:
        under_way: steps that running trials will still take; they are spent.
    """
    seconds, steps = math.inf, math.inf
    if spec.hours is not None:
        seconds = spec.hours * 3600 - ledger.elapsed()
    if spec.steps is not None:
        steps = spec.steps - ledger.steps() - under_way
    return Left(seconds=seconds, steps=steps)


def left_of(spec: StudySpec, unspent: Left) -> str:
    """In words, what is left of the hours and steps: "0:01 left of 0.06 hours"."""
    parts = []
    if spec.hours is not None:
        parts.append(f"{clock(max(0.0, unspent.seconds))} left of {spec.hours:g} hours")
    if spec.steps is not None:
        parts.append(f"{counted(int(max(0.0, unspent.steps)), 'step')} left of {spec.steps:,}")
    return " and the ".join(parts)


def out_of_reach(spec: StudySpec, unspent: Left) -> str:
    """In words, that a search can complete nothing in what is left."""
    return f"nothing more can be completed in the {left_of(spec, unspent)}"


def find_met(
    spec: StudySpec,
    finished: Sequence[FrozenTrial],
    ended: Mapping[int, float],
    *,
    since: int,
) -> Met | None:
    """The first rule of `[budget]` that holds for the trials that have ended, one after the other.

    Trials that break a constraint do not count.

    Args:
        ended: when each ended by the database's clock, in seconds, by its number. A worker's own
            clock may be wrong, or put back in the night.
        since: the number of the last amendment which changes the search. Patience counts the trials
            that were proposed since: who extends a study that ran out of patience wants to see more
            of them.
    """
    if spec.target is None and spec.patience is None:
        return None
    sign = 1.0 if spec.direction == "maximize" else -1.0
    complete = [t for t in finished if t.state is TrialState.COMPLETE and is_feasible(t)]
    complete.sort(key=lambda t: (ended.get(t.number, math.inf), t.number))
    best: FrozenTrial | None = None
    waited = 0
    for trial in complete:
        if best is None or sign * _value(trial) > sign * _value(best):
            best, waited = trial, 0
        elif trial.user_attrs.get(attributes.AMENDMENT, 0) >= since:
            waited += 1
        if spec.target is not None and sign * _value(best) >= sign * spec.target:
            text = (
                f"trial {best.number} reached the target: {spec.metric} {figure(_value(best))}, "
                f"wanted {figure(spec.target)}"
            )
            return Met(rule="target", trial=best.number, text=text)
        if spec.patience is not None and waited >= spec.patience:
            text = (
                f"patience is used up: {counted(waited, 'complete trial')} without a better one "
                f"than trial {best.number}"
            )
            return Met(rule="patience", trial=best.number, text=text)
    return None


def _value(trial: FrozenTrial) -> float:
    return float(trial.value or 0.0)
