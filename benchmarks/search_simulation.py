"""Search methods in simulated time on several asynchronous workers.

A method is a generator of its completed trials in the order of time. Nothing is trained: a worker
is busy for the seconds that the recorded curve says.
"""

import heapq
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import optuna
from curve_sources import Array, Params, Source

from search.sampling.freeze_thaw import Curve, Left
from search.sampling.freeze_thaw.decision import decide, expected
from search.sampling.freeze_thaw.encoding import Encoding

Method = Callable[[Source, int, float, int], Iterator["Completed"]]


@dataclass(frozen=True)
class Completed:
    """A trial that a method ran to its last epoch.

    Attributes:
        seconds: since the start of the search, when the trial was complete.
        value: its observed final accuracy, percent.
        chosen: the best observed of the trials completed by then.
        by_model: of those the best by the model's mean; None without a model.
    """

    seconds: float
    value: float
    chosen: Params
    by_model: Params | None = None


def control(source: Source, seed: int, trials: int) -> list[Completed]:
    """Random trials one after the other, each to its last epoch."""
    done: list[Completed] = []
    now, best, chosen = 0.0, -np.inf, None
    for params in itertools.islice(_at_random(source, 10_000 + seed), trials):
        values, seconds = source.curve(params)
        now += seconds[-1]
        if values[-1] > best:
            best, chosen = values[-1], params
        assert chosen is not None
        done.append(Completed(now, float(values[-1]), chosen))
    return done


def _at_random(source: Source, seed: int) -> Iterator[Params]:
    rng = np.random.default_rng(seed)
    if source.pool is not None:
        yield from (source.pool[i] for i in rng.permutation(len(source.pool)))
        return
    encoding = Encoding(source.space, {})
    while True:
        yield encoding.sample(rng, 1)[0]


class _Best:
    """The best observed of the completed trials so far."""

    def __init__(self) -> None:
        self._value = -np.inf
        self._chosen: Params = {}

    def add(self, seconds: float, value: float, params: Params) -> Completed:
        if value > self._value:
            self._value, self._chosen = value, params
        return Completed(seconds, float(value), self._chosen)


def at_random(source: Source, seed: int, limit: float, workers: int) -> Iterator[Completed]:
    """Random trials at full length."""
    best, free = _Best(), [0.0] * workers
    events: list[tuple[float, int, float, Params]] = []
    proposals = enumerate(_at_random(source, seed))
    while True:
        while free:
            number, params = next(proposals, (0, None))
            now = free.pop()
            if params is not None:
                values, seconds = source.curve(params)
                heapq.heappush(events, (now + seconds[-1], number, values[-1], params))
        if not events or events[0][0] > limit:
            return
        now, _, value, params = heapq.heappop(events)
        free.append(now)
        yield best.add(now, value, params)


@dataclass
class _Running:
    """A worker's stay in a lineage: from which epoch and when."""

    began: float
    first: int


def freeze_thaw(source: Source, seed: int, limit: float, workers: int) -> Iterator[Completed]:
    """The service's own decisions."""
    seeds = itertools.count(seed * 1_000_003)
    curves: list[Curve] = []
    recorded: list[tuple[Array, Array]] = []  # accuracies and seconds of each lineage
    running: dict[int, _Running] = {}
    left = None if source.pool is None else list(source.pool)
    best, complete = _Best(), []
    events = [(0.0, worker, -1) for worker in range(workers)]
    waiting: list[int] = []

    def seen(curve: Curve, now: float) -> Curve:
        """A curve with what its running trial has reported by now."""
        if curve.lineage not in running:
            return curve
        at, (values, seconds) = running[curve.lineage], recorded[curve.lineage]
        spent = now - at.began + (seconds[at.first - 1] if at.first else 0.0)
        epoch = min(int(np.searchsorted(seconds, spent, side="right")), curve.until or 0)
        return replace(curve, values=_reports(values, max(epoch, at.first)))

    while events:
        now, worker, lineage = heapq.heappop(events)
        if now > limit:
            return
        if lineage >= 0:
            curve, (values, seconds) = curves[lineage], recorded[lineage]
            until = curve.until or source.epochs
            over = until == source.epochs
            curves[lineage] = replace(
                curve,
                values=_reports(values, until),
                state="complete" if over else "paused",
                until=None,
                seconds_per_step=seconds[until - 1] / until,
            )
            del running[lineage]
            if over:
                complete.append(lineage)
                done = best.add(now, values[-1], curve.params)
                if source.noisy:
                    view = [seen(c, now) for c in curves]
                    mean = expected(source.space, {}, view, direction="maximize")
                    winner = max(complete, key=lambda i: mean[i][0])
                    done = replace(done, by_model=curves[winner].params)
                yield done
        for free in [worker, *waiting]:
            decision = decide(
                source.space,
                {},
                [seen(c, now) for c in curves],
                direction="maximize",
                seed=next(seeds),
                may_begin=left is None or len(left) > 0,
                last_step_of=lambda _: source.epochs,
                left=Left(seconds=limit - now),
                among=left,
            )
            if free in waiting:
                waiting.remove(free)
            if decision is None:
                waiting.append(free)
                continue
            number = decision.lineage
            if number is None:
                number = len(curves)
                params = decision.params
                curves.append(
                    Curve(
                        lineage=number,
                        params=params,
                        values={},
                        last_step=source.epochs,
                        state="running",
                    )
                )
                recorded.append(source.curve(params))
                if left is not None:
                    left.remove(params)
            curve, (_, seconds) = curves[number], recorded[number]
            first = max(curve.values, default=0)
            curves[number] = replace(curve, state="running", until=decision.until)
            running[number] = _Running(now, first)
            spent = seconds[decision.until - 1] - (seconds[first - 1] if first else 0.0)
            heapq.heappush(events, (now + spent, free, number))


def _reports(values: Array, until: int) -> dict[int, float]:
    return {epoch: float(values[epoch - 1]) for epoch in range(1, until + 1)}


def tpe(pruner: Callable[[int], optuna.pruners.BasePruner]) -> Method:
    """Optuna's TPE with one of its pruners, which is made for a number of epochs."""

    def search(source: Source, seed: int, limit: float, workers: int) -> Iterator[Completed]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                study_name=f"search {seed}",  # hyperband draws its brackets from it
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed),
                pruner=pruner(source.epochs),
            )
        ask, best = _Asking(source, study), _Best()
        # When, which worker, which epoch ends, of which trial. A worker has one entry at most.
        events: list[tuple[float, int, int, optuna.Trial, Params, Array, Array]] = []

        def begin(now: float, worker: int) -> None:
            asked = ask()
            if asked is not None:
                trial, params = asked
                values, seconds = source.curve(params)
                entry = (now + seconds[0], worker, 1, trial, params, values, seconds)
                heapq.heappush(events, entry)

        for worker in range(workers):
            begin(0.0, worker)
        while events and events[0][0] <= limit:
            now, worker, epoch, trial, params, values, seconds = heapq.heappop(events)
            trial.report(float(values[epoch - 1]), epoch)
            if epoch == source.epochs:
                study.tell(trial, float(values[-1]))
                yield best.add(now, values[-1], params)
            elif trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                then = now + seconds[epoch] - seconds[epoch - 1]
                entry = (then, worker, epoch + 1, trial, params, values, seconds)
                heapq.heappush(events, entry)
                continue
            begin(now, worker)

    return search


class _Asking:
    """Asks Optuna for trials; from a pool, for the nearest configuration that is left."""

    def __init__(self, source: Source, study: optuna.Study) -> None:
        self._study = study
        self._distributions = {p.name: p.distribution for p in source.space.parameters}
        self._left = None if source.pool is None else list(source.pool)
        self._encoding = Encoding(source.space, {})
        self._x = self._encoding.encode(self._left or [])

    def __call__(self) -> tuple[optuna.Trial, Params] | None:
        trial = self._study.ask(self._distributions)
        if self._left is None:
            return trial, trial.params
        if not self._left:
            return None
        far = ((self._x - self._encoding.encode([trial.params])) ** 2).sum(1)
        nearest = int(far.argmin())
        params = self._left.pop(nearest)
        self._x = np.delete(self._x, nearest, axis=0)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)  # TPE then ignores it
        self._study.enqueue_trial(dict(params))
        return self._study.ask(self._distributions), params


METHODS: dict[str, Method] = {
    "freeze-thaw": freeze_thaw,
    "random": at_random,
    "tpe": tpe(lambda _: optuna.pruners.NopPruner()),
    "tpe, median": tpe(lambda _: optuna.pruners.MedianPruner()),
    "tpe, successive halving": tpe(
        lambda _: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "tpe, hyperband": tpe(
        lambda epochs: optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=epochs, reduction_factor=3
        )
    ),
}
