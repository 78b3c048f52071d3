"""A study played through without its problem: the pruner itself, workers that take their time."""

import heapq
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import optuna

from search.problem import Cost
from search.sampling.make import make_pruner
from search.spec import StudySpec

__all__ = ["FOLLOWS_VALUES", "LEARNING", "Simulation", "simulate"]

#: Pruners that decide by the values themselves, which a simulation does not know.
FOLLOWS_VALUES = ("patience", "threshold")

#: Samplers that learn from the trials before -> trials that they first draw at random by default.
LEARNING = {"tpe": 10, "gp": 10, "cma-es": 1}


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """How a study went that was played through."""

    seconds: float  # from the start of the workers to the end of the last trial
    ended: int  # trials
    steps: int  # that ran
    steps_unpruned: int  # that the same trials would have run without the pruner


@dataclass
class _Running:
    trial: optuna.Trial | None  # None: the pruner does not see it, or not any more
    cost: Cost
    steps: int  # that it runs unless it is pruned
    rest_seconds: float  # after these until its time limit; 0 when it is through before
    quality: float
    audited: bool
    step: int = 0


def simulate(
    spec: StudySpec,
    costs: Sequence[Cost | None],
    *,
    workers: int,
    start_seconds: float,
    chance: random.Random,
) -> Simulation:
    """Play a study through, event by event.

    Every trial has a quality, which it keeps from its first step to its last and on which the
    study's pruner decides: half of it is chance, half the rank of its cost, as larger networks and
    longer training do better on the whole. A sampler that learns is taken to propose, once it has
    begun to, the better of two trials; so it is pruned less, and comes to prefer costly ones.

    Args:
        costs: measured cost per lineage, None if unknown; at least one is known. Unmeasured
            lineages reuse a random measured cost: named ones from named trials and sampled ones
            from sampled trials where available.
        start_seconds: until a worker is ready.
    """
    name = "none" if spec.pruner.name in FOLLOWS_VALUES else spec.pruner.name
    options = {} if name == "none" else spec.pruner.options
    study = optuna.create_study(
        study_name=spec.name,  # by which Hyperband deals out its brackets
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner(name, options),
    )
    known = [cost for cost in costs if cost is not None]
    named = [cost for cost in costs[: len(spec.named)] if cost is not None] or known
    drawn = [cost for cost in costs[len(spec.named) :] if cost is not None] or known
    ranked = sorted(cost.seconds for cost in known)

    def propose(lineage: int) -> tuple[float, Cost]:
        cost = costs[lineage] if lineage < len(costs) else None
        cost = cost or chance.choice(named if lineage < len(spec.named) else drawn)
        rank = bisect_left(ranked, cost.seconds) / max(1, len(ranked) - 1)
        return (chance.random() + rank) / 2, cost

    learns_after = float("inf")
    if spec.sampler.name in LEARNING:
        learns_after = spec.sampler.options.get("n_startup_trials", LEARNING[spec.sampler.name])
    # The hours are counted from the first claim on.
    limit = None if spec.hours is None else start_seconds + spec.hours * 3600
    # (seconds, worker, what it runs); a worker stands in it once
    events: list[tuple[float, int, _Running | None]] = [
        (start_seconds, worker, None) for worker in range(workers)
    ]
    started = ended = steps = unpruned = 0
    last = start_seconds
    while events:
        last, worker, running = heapq.heappop(events)
        now = last
        if running is None:
            used_up = spec.steps is not None and steps >= spec.steps
            if started == spec.trials or used_up or (limit is not None and now >= limit):
                continue
            control = spec.is_control(started)
            quality, cost = propose(started)
            if not control and started >= len(spec.named) and ended >= learns_after:
                quality, cost = max((quality, cost), propose(started), key=itemgetter(0))
            trial = None if control else study.ask()
            most, rest = _within(cost, spec.workers.trial_timeout_seconds)
            running = _Running(trial, cost, most, rest, quality, spec.is_audited(started))
            started += 1
            now += cost.start_seconds
            ends = False
        elif running.step < running.steps:
            running.step += 1
            steps += 1
            over = running.step == running.steps and running.rest_seconds == 0
            ends = (_pruned(study, running, over) and not running.audited) or over
        else:  # its time limit
            ends = True
            if running.trial is not None:
                study.tell(running.trial, state=optuna.trial.TrialState.PRUNED)
        if ends:
            ended += 1
            unpruned += running.steps
            heapq.heappush(events, (now, worker, None))
        else:
            more = running.step < running.steps
            now += running.cost.step_seconds if more else running.rest_seconds
            heapq.heappush(events, (now, worker, running))
    return Simulation(seconds=last, ended=ended, steps=steps, steps_unpruned=unpruned)


def _within(cost: Cost, timeout: float | None) -> tuple[int, float]:
    """The steps of a trial within its time limit, and the seconds from there to the limit."""
    if timeout is None or cost.seconds <= timeout:
        return cost.steps, 0.0
    left = timeout - cost.start_seconds
    steps = max(0, int(left / cost.step_seconds)) if cost.step_seconds else 0
    return steps, left - steps * cost.step_seconds


def _pruned(study: optuna.Study, running: _Running, over: bool) -> bool:
    """Show a step to the pruner; whether it ends the trial."""
    trial, state = running.trial, optuna.trial.TrialState
    if trial is None:
        return False
    trial.report(running.quality, running.step)
    pruned = not over and trial.should_prune()
    if over or pruned:
        study.tell(trial, state=state.PRUNED if pruned else state.COMPLETE,
                   values=None if pruned else running.quality)  # fmt: skip
        running.trial = None
    return pruned
