"""Estimates the time and memory of a study before it runs: `make_plan`."""

import logging
import math
import os
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection

from search.aims.foreknown import keeps_known, random_points
from search.errors import SearchError
from search.plan.ask import outline_of
from search.plan.measure import Probes, probe
from search.plan.simulate import FOLLOWS_VALUES, simulate
from search.problem import Cost, Probing, Problem
from search.sampling.make import make_sampler
from search.spec import StudySpec
from search.spec.size import Count, count, count_values
from search.spec.strategies import FREEZE_THAW
from search.study.choose_sampler import choose_sampler
from search.study.load_problem import own_code
from search.text import counted

__all__ = ["Forecast", "Plan", "Range", "first_points", "make_plan"]

log = logging.getLogger(__name__)

PROBED = 8  # of the study's own first trials
PROBED_DRAWN = 4  # of its first trials without a name, where these are not among those
JUDGED = 200  # random configurations of which it is asked whether they keep the constraints
SIMULATED_TRIALS = 1000  # in all simulations together
SIMULATIONS = (5, 50)  # at least and at most


@dataclass(frozen=True, kw_only=True)
class Range:
    """A figure that is not known exactly."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The outcome of the probes and the simulations."""

    probes: Probes
    trial_seconds: Range  # of an unpruned trial: smallest, median and largest of those probed
    study_seconds: Range  # 10 %, 50 % and 90 % of the simulations
    trials: int  # that end; fewer than the budget where its hours or steps are used up before
    saved: float  # share of the steps that the pruner saves, 0 to 1
    foreseen: bool  # whether the pruner's part could be simulated
    share: float  # of the processors' time that other work left the probes, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study as it would run here."""

    spec: StudySpec  # with the sampler that the study would have
    sampler_reason: str  # why that one
    workers: int
    count: Count
    values: Mapping[str, int | None]  # parameter -> number of its values; None: infinitely many
    remarks: Mapping[str, Mapping[str, Any]]  # what makes no sense -> a configuration of that kind
    feasible: float | None  # share of random configurations that keep the constraints known early
    forecast: Forecast | None  # None: the problem has no probe
    memory_bytes: int | None  # of this machine; None: not known

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; times in seconds, memory in bytes."""
        forecast = self.forecast
        return {
            "study": self.spec.name,
            "spec_hash": self.spec.hash,
            "trials": self.spec.trials,
            "hours": self.spec.hours,
            "steps": self.spec.steps,
            "sampler": {"name": self.spec.sampler.name, "reason": self.sampler_reason},
            "space": {
                "points": self.count.points,
                "branches": self.count.branches,
                "values": dict(self.values),
            },
            "feasible": self.feasible,
            "remarks": [{"remark": k, "example": dict(v)} for k, v in self.remarks.items()],
            "workers": self.workers,
            "memory_bytes": self.memory_bytes,
            "forecast": None
            if forecast is None
            else {
                "trial_seconds": vars(forecast.trial_seconds),
                "study_seconds": vars(forecast.study_seconds),
                "trials_ended": forecast.trials,
                "steps_saved_by_pruning": forecast.saved if forecast.foreseen else None,
                "worker_bytes": forecast.probes.peak_bytes,
                "worker_start_seconds": forecast.probes.start_seconds,
                "share_of_processors": forecast.share,
                "probes": [
                    {
                        "params": dict(one.params),
                        "cost": one.cost and vars(one.cost),
                        "failure": one.failure,
                    }
                    for one in forecast.probes.probes
                ],
            },
        }


def make_plan(
    spec: StudySpec, problem: Problem, *, workers: int, threads: int, gpus: tuple[str, ...]
) -> Plan:
    """Count the space, probe some of its points, and simulate the study with what they cost.

    Writes nothing to any storage.

    Args:
        problem: built from the spec.
        threads: of each worker.

    Raises:
        SearchError: the problem cannot be run here.
    """
    workers = min(workers, spec.trials)
    chosen = choose_sampler(spec, problem)
    spec = spec.with_sampler(chosen.name)

    def keeps(params: Mapping[str, Any]) -> bool:
        with own_code(spec.problem, "asked for the metrics of a configuration"):
            return keeps_known(problem, spec, params)

    forecast = None
    remarks: dict[str, Mapping[str, Any]] = {}
    if isinstance(problem, Probing):
        first = _feasible(_first_probed(spec), spec, keeps)
        known = [*first.values(), *filter(keeps, _ends(spec))]
        outlines = [outline_of(problem, spec.problem, point) for point in known]
        for point, outline in zip(known, outlines, strict=True):
            for remark in outline.remarks:
                remarks.setdefault(remark, point)
        by_size = sorted(range(len(known)), key=lambda i: outlines[i].size)
        points = _unique([*first.values(), known[by_size[0]], known[by_size[-1]]])
        log.info("measuring what a trial takes, for %s", counted(len(points), "configuration"))
        probes = probe(spec, points, workers=workers, threads=threads, gpus=gpus)
        forecast = _forecast(spec, first, probes, workers)
        if forecast is None:
            failure = next(one.failure for one in probes.probes if one.failure is not None)
            raise SearchError(
                f"a plan measures {counted(len(first), 'configuration')} of the study, and none of "
                f"them fits here ({failure}); narrow [space], start fewer with --workers, or plan "
                "on a larger machine"
            )
    return Plan(
        spec=spec,
        sampler_reason=chosen.reason,
        workers=workers,
        count=count(spec.space, spec.fixed),
        values={p.name: count_values(p.distribution) for p in spec.space.parameters},
        remarks=remarks,
        feasible=_feasible_share(spec, keeps),
        forecast=forecast,
        memory_bytes=_memory_bytes(),
    )


def _feasible(
    points: Mapping[int, dict[str, Any]],
    spec: StudySpec,
    keeps: Callable[[Mapping[str, Any]], bool],
) -> dict[int, dict[str, Any]]:
    """The configurations by lineage, those that break a constraint replaced by feasible ones."""
    drawn = ({**spec.fixed, **point} for point in random_points(spec, spec.seed))
    others = filter(keeps, drawn)
    return {
        lineage: point if keeps(point) else next(others, point) for lineage, point in points.items()
    }


def _feasible_share(spec: StudySpec, keeps: Callable[[Mapping[str, Any]], bool]) -> float | None:
    if not spec.constraints or not spec.space.parameters:
        return None
    points = list(random_points(spec, spec.seed, JUDGED))
    return sum(keeps({**spec.fixed, **point}) for point in points) / len(points)


def _first_probed(spec: StudySpec) -> dict[int, dict[str, Any]]:
    """The configurations that are probed, by lineage."""
    named = len(spec.named)
    lineages = {*range(PROBED), *range(named, named + PROBED_DRAWN)} & {*range(spec.trials)}
    return first_points(spec, sorted(lineages))


def first_points(spec: StudySpec, lineages: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The configurations of lineages, as long as the study's sampler knows no result.

    They are those that the study will run, as a lineage's seed follows from the study's; only of
    `qmc`, and of lineages after a sampler's start-up, they are others of the same distribution.
    """
    points = {}
    for lineage in lineages:
        assigned = spec.assigned(lineage)
        known = dict(assigned.params) if assigned is not None else {}
        name, options = spec.sampler.name, spec.sampler.options
        if spec.is_control(lineage):
            name, options = "random", {}
        sampler = make_sampler(
            name,
            options,
            seed=spec.trial_seed(lineage),
            conditional=spec.space.conditional,
        )
        study = optuna.create_study(
            directions=[StudyDirection[each.upper()] for each in spec.directions], sampler=sampler
        )
        study.ask()
        draw = partial(_draw, study, study.trials[0], known)
        points[lineage] = {**spec.fixed, **known, **spec.space.walk(draw, {**spec.fixed, **known})}
    return points


def _draw(
    study: optuna.Study,
    trial: optuna.trial.FrozenTrial,
    known: Mapping[str, Any],
    name: str,
    distribution: BaseDistribution,
) -> Any:
    if name in known:
        return known[name]
    if distribution.single():  # Optuna draws nothing then
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[0]
        return distribution.low  # type: ignore[attr-defined]
    return study.sampler.sample_independent(study, trial, name, distribution)


def _ends(spec: StudySpec) -> Iterator[dict[str, Any]]:
    """Points that together touch both ends of every range and every choice."""
    if spec.space.parameters:
        for point in spec.space.probes(spec.fixed):
            yield {**spec.fixed, **point}


def _unique(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    for point in points:
        if point not in kept:
            kept.append(point)
    return kept


def _forecast(
    spec: StudySpec, first: Mapping[int, Mapping[str, Any]], probes: Probes, workers: int
) -> Forecast | None:
    costs = [one.cost for one in probes.probes if one.cost is not None]
    own: list[Cost | None] = [None] * (max(first) + 1)
    for lineage, point in first.items():
        own[lineage] = next(probe.cost for probe in probes.probes if probe.params == point)
    drawn = [cost for cost in own if cost is not None]
    if not drawn:
        return None
    trial_seconds = Range(
        low=min(cost.seconds for cost in costs),
        middle=statistics.median(cost.seconds for cost in drawn),
        high=max(cost.seconds for cost in costs),
    )
    share = statistics.median(cost.share for cost in costs)
    if spec.sampler.name == FREEZE_THAW:
        return Forecast(
            probes=probes,
            trial_seconds=trial_seconds,
            study_seconds=_until_used_up(spec, costs, workers),
            trials=spec.trials,
            saved=0.0,
            foreseen=False,
            share=share,
        )
    chance = random.Random(spec.seed)
    fewest, most = SIMULATIONS
    repetitions = max(fewest, min(most, SIMULATED_TRIALS // spec.trials))
    played = [
        simulate(spec, own, workers=workers, start_seconds=probes.start_seconds, chance=chance)
        for _ in range(repetitions)
    ]
    unpruned = sum(one.steps_unpruned for one in played)
    return Forecast(
        probes=probes,
        trial_seconds=trial_seconds,
        study_seconds=_quantiles([one.seconds for one in played]),
        trials=round(statistics.median(one.ended for one in played)),
        saved=1 - sum(one.steps for one in played) / unpruned if unpruned else 0.0,
        foreseen=spec.pruner.name not in FOLLOWS_VALUES,
        share=share,
    )


def _until_used_up(spec: StudySpec, costs: Sequence[Cost], workers: int) -> Range:
    """When the hours or steps are used up, or all trials have come to their last step.

    A step of each trial is taken to cost the same.
    """
    hours = math.inf if spec.hours is None else spec.hours * 3600

    def by_steps(seconds: float) -> float:
        return math.inf if spec.steps is None else spec.steps * seconds

    def until(choose: Callable[[Iterable[float]], float]) -> float:
        step = choose([cost.step_seconds for cost in costs])
        trial = choose([cost.seconds for cost in costs])
        return min(hours, min(by_steps(step), spec.trials * trial) / workers)

    return Range(low=until(min), middle=until(statistics.median), high=until(max))


def _quantiles(values: Sequence[float]) -> Range:
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Range(low=tenths[0], middle=tenths[4], high=tenths[8])


def _memory_bytes() -> int | None:
    """What this process may use at most: the machine's memory, or less in a container."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdigit() else machine
