"""A study played through without its problem: the pruner itself, workers that take their time."""

import heapq
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import optuna

from search.problem import Cost
from search.spec import StudySpec
from search.strategies import make_pruner

__all__ = ["FOLLOWS_VALUES", "Rehearsal", "rehearse"]

#: Pruners that look at the values themselves; without them nothing can be said.
FOLLOWS_VALUES = ("patience", "threshold")

#: Samplers that learn from the trials before -> trials that they first draw at random by default.
_LEARNING = {"tpe": 10, "gp": 10, "cma-es": 1}


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """How a study went that was played through."""

    seconds: float  # from the start of the workers to the end of the last trial
    ended: int  # trials
    steps: int  # that ran
    steps_unpruned: int  # that the same trials would have run without the pruner


@dataclass
class _Running:
    trial: optuna.Trial | None  # None: the pruner does not see it, or not any more
    cost: Cost
    steps: int
    quality: float
    audited: bool
    step: int = 0


def rehearse(
    spec: StudySpec,
    costs: Sequence[Cost | None],
    *,
    workers: int,
    start_seconds: float,
    chance: random.Random,
) -> Rehearsal:
    """Play a study through, event by event.

    Every trial has a quality, which it keeps from its first step to its last and on which the
    study's pruner decides: half of it is chance, half the rank of its cost, as larger networks and
    longer training do better on the whole. A sampler that learns is taken to propose, once it has
    begun to, the better of two trials; so it is pruned less, and comes to prefer costly ones.

    Args:
        costs: of the first lineages, None where it is not known, of one at least it is; each
            further lineage has that of one of them.
        start_seconds: until a worker is ready.
    """
    name = "none" if spec.pruner.name in FOLLOWS_VALUES else spec.pruner.name
    options = {} if name == "none" else spec.pruner.options
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner(name, options),
    )
    known = [cost for cost in costs if cost is not None]
    ranked = sorted(cost.seconds for cost in known)

    def propose(lineage: int) -> tuple[float, Cost]:
        cost = costs[lineage] if lineage < len(costs) else None
        cost = cost or chance.choice(known)
        rank = bisect_left(ranked, cost.seconds) / max(1, len(ranked) - 1)
        return (chance.random() + rank) / 2, cost

    learns_after = float("inf")
    if spec.sampler.name in _LEARNING:
        learns_after = spec.sampler.options.get("n_startup_trials", _LEARNING[spec.sampler.name])
    limit = None if spec.hours is None else spec.hours * 3600
    timeout = spec.workers.trial_timeout_seconds
    # (seconds, worker, what it runs); a worker stands in it once
    events: list[tuple[float, int, _Running | None]] = [
        (start_seconds, worker, None) for worker in range(workers)
    ]
    started = ended = steps = unpruned = 0
    now = start_seconds
    while events:
        now, worker, running = heapq.heappop(events)
        if running is None:
            if started == spec.trials or (limit is not None and now >= limit):
                continue
            control = spec.is_control(started)
            quality, cost = propose(started)
            if not control and ended >= learns_after:
                quality, cost = max((quality, cost), propose(started), key=itemgetter(0))
            most = cost.steps
            if timeout is not None:
                most = min(most, max(1, int(timeout / cost.step_seconds)))
            trial = None if control else study.ask()
            running = _Running(trial, cost, most, quality, spec.is_audited(started))
            started += 1
            now += cost.start_seconds
        else:
            running.step += 1
            steps += 1
            over = running.step == running.steps
            if _pruned(study, running, over) and not running.audited:
                over = True
            if over:
                ended += 1
                unpruned += running.steps
                heapq.heappush(events, (now, worker, None))
                continue
        heapq.heappush(events, (now + running.cost.step_seconds, worker, running))
    return Rehearsal(seconds=now, ended=ended, steps=steps, steps_unpruned=unpruned)


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
