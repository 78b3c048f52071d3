"""The life of one worker: claim, run, end, again, until the budget is used up."""

import math
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from search import attributes
from search.attributes import Reason
from search.errors import StudyHalted
from search.ledger import Claim, Fenced
from search.ledger.attempt import Fresh
from search.ledger.heartbeat import Heartbeat
from search.problem import Diverged, TrialPruned, TrialStopped
from search.sampling.make import hand_over, make_sampler
from search.signals import stopping
from search.study import Study
from search.worker.contract import PARENT_VARIABLE, STOP_SECONDS
from search.worker.history import History
from search.worker.trial_run import TrialRun

__all__ = ["stop_on_signals", "work"]

SAME_ERRORS = 3  # in a row, then the study is halted: a typo must not burn a budget
CHECKPOINTS_KEPT = 5  # of the best complete trials; `export` wants the best one's
IDLE_SECONDS = 1.0  # between two looks for a lineage that has become free
HARD_STOP_SECONDS = STOP_SECONDS - 2  # for a problem that does not ask `should_stop` in time


@dataclass(frozen=True, kw_only=True)
class _Ending:
    state: TrialState
    value: float | None = None
    reason: Reason | None = None
    attrs: Mapping[str, Any] | None = None


def work(study: Study, *, name: str, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Run trials of a study until all lineages have ended, its hours are over, or `stop` is set.

    Args:
        name: of this worker; no other process has it.
        say: is given one line per event.

    Raises:
        StudyHalted: the same error ended several trials in a row.
        ProblemError: the problem cannot be built here, or on other data than the study's.
    """
    problem = study.problem
    history = History(study.spec.direction, CHECKPOINTS_KEPT)
    origin = {attributes.ENVIRONMENT: dict(problem.environment()), attributes.WORKER: name}

    def fresh(lineage: int) -> Fresh:
        assigned = study.spec.assigned(lineage)
        label = {attributes.NAME: assigned.name} if assigned else {}
        if study.spec.is_control(lineage):
            label[attributes.ARM] = attributes.CONTROL
        return Fresh(
            params=assigned.params if assigned else {},
            user_attrs={**label, attributes.DATA: dict(study.fingerprint)},
        )

    while not stop.is_set():
        cause = study.ledger.halted()
        if cause is not None:
            raise StudyHalted(study.name, cause)
        hours = study.spec.hours
        if hours is not None and study.ledger.elapsed() >= hours * 3600:
            say(f"the study's {hours:g} hours are used up")
            return
        claim = study.ledger.claim(name, fresh, origin=origin)
        if claim is None:
            counts = study.ledger.counts()
            if counts.done == counts.total:
                return
            # Those who wait keep the database known as reachable, without which nobody is reaped.
            stop.wait(min(IDLE_SECONDS, study.ledger.timing.heartbeat_seconds))
            continue
        if claim.previous is not None:
            say(f"trial {claim.trial.number} goes on where trial {claim.previous} ended")
        _attempt(study, claim, history, stop, say)


def _attempt(
    study: Study,
    claim: Claim,
    history: History,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Run one trial to an ending, and record that unless the lease is no longer ours."""
    number = claim.trial.number
    with Heartbeat(study.ledger, claim.lease) as beat, _hard_stop(study, claim, stop):
        try:
            ending = _run(study, claim, history, stop, beat)
        except KeyboardInterrupt:  # in a notebook
            with suppress(Fenced):
                study.ledger.release(claim)
            raise
    try:
        if beat.lost.is_set():
            raise Fenced
        if ending is None:
            study.ledger.release(claim)
            say(f"trial {number} was handed back")
            return
        study.ledger.end(
            claim, ending.state, ending.value, reason=ending.reason, attrs=ending.attrs
        )
    except Fenced:
        say(f"trial {number} was given to another worker while we were away; result dropped")
        return
    reason = f" ({ending.reason.value})" if ending.reason else ""
    say(f"trial {number} ended {ending.state.name}{reason}")
    if ending.reason is Reason.ERROR:
        say(str((ending.attrs or {})[attributes.TRACEBACK]))
        recent = study.ledger.recent_errors(SAME_ERRORS)
        if len(recent) == SAME_ERRORS and recent[0] and len(set(recent)) == 1:
            study.ledger.halt(recent[0])
    _sweep(study, claim.lease.lineage, ending, history)


def _run(
    study: Study, claim: Claim, history: History, stop: threading.Event, beat: Heartbeat
) -> _Ending | None:
    """Carry the problem through; None when the trial was stopped and goes on elsewhere."""
    timeout = study.spec.workers.trial_timeout_seconds
    lineage = claim.lease.lineage
    run: TrialRun | None = None
    try:
        with study.storage.optuna.batch():
            trial, params = _suggest(study, claim, history)
        steps = claim.trial.intermediate_values
        run = TrialRun(
            trial,
            params=params,
            seed=study.spec.trial_seed(lineage),
            lineage=lineage,
            checkpoints=study.checkpoints,
            stop=stop,
            lost=beat.lost,
            timeout_seconds=timeout,
            last_value=steps[max(steps)] if steps else None,
            batch=study.storage.optuna.batch,
            prunable=not study.spec.is_control(lineage)
            and attributes.AUDIT not in trial.user_attrs,
            audited=study.spec.is_audited(lineage),
        )
        value = float(study.problem.run(run))
        if not math.isfinite(value):
            raise Diverged(f"the final value is {value}")
        return _Ending(state=TrialState.COMPLETE, value=value)
    except TrialPruned:
        return _Ending(state=TrialState.PRUNED, value=run.last_value if run else None)
    except TrialStopped:
        if stop.is_set() or beat.lost.is_set() or run is None:
            return None
        return _Ending(state=TrialState.PRUNED, value=run.last_value, reason=Reason.TIMEOUT)
    except Diverged as error:
        return _Ending(
            state=TrialState.PRUNED,
            value=run.last_value if run else None,
            reason=Reason.DIVERGED,
            attrs={attributes.ERROR: printable(str(error))},
        )
    except MemoryError as error:
        line = printable(str(error).splitlines()[0]) if str(error) else "out of memory"
        return _Ending(
            state=TrialState.FAIL, reason=Reason.OUT_OF_MEMORY, attrs={attributes.ERROR: line}
        )
    except optuna.exceptions.UpdateFinishedTrialError:
        beat.lost.set()
        return None
    except (Exception, SystemExit) as error:
        lines = str(error).splitlines()
        return _Ending(
            state=TrialState.FAIL,
            reason=Reason.ERROR,
            attrs={
                attributes.ERROR: printable(f"{type(error).__name__}: {lines[0] if lines else ''}"),
                attributes.TRACEBACK: printable(traceback.format_exc()),
            },
        )


def printable(text: str) -> str:
    """A text that every database and every log takes: no NUL, no half of a surrogate pair.

    The name of a file that is not in UTF-8 brings such a half into the error that tells of it.
    """
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def _suggest(study: Study, claim: Claim, history: History) -> tuple[optuna.Trial, dict[str, Any]]:
    """Optuna's trial with every parameter sampled, and all parameters the problem is given."""
    spec, lineage = study.spec, claim.lease.lineage
    searched, name, options = study.searched, spec.sampler.name, spec.sampler.options
    if spec.is_control(lineage):
        searched, name, options = study.optuna, "random", {}
    # A scrambled sequence is one sequence only while all workers scramble it alike.
    seed = spec.seed if name == "qmc" else spec.trial_seed(lineage)
    sampler = make_sampler(name, options, seed=seed, conditional=spec.space.conditional)
    hand_over(searched.sampler, sampler)
    searched.sampler = sampler
    searched._thread_local.cached_all_trials = None  # as Study.ask does for each new trial
    trial = optuna.Trial(searched, claim.trial._trial_id)
    assigned = spec.assigned(lineage)
    if assigned is not None:
        for name, distribution in spec.distributions(assigned.params).items():
            _ask(trial, name, distribution)
    chosen = spec.space.walk(lambda name, d: _ask(trial, name, d), {**spec.fixed, **trial.params})
    params = {**spec.fixed, **trial.params, **chosen}
    trials = study.optuna._get_trials(deepcopy=False, use_cache=True)
    twin = history.twin(trials, trial.params, trial.number, lineage)
    if twin is not None:
        # Not the old value: the seed differs, so the repetition measures the spread of its value.
        trial.set_user_attr(attributes.DUPLICATE_OF, twin)
    return trial, params


def _ask(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def _sweep(study: Study, lineage: int, ending: _Ending, history: History) -> None:
    """Delete checkpoints that nobody will ask for, so that the disk stays bounded."""
    value = ending.value if ending.state is TrialState.COMPLETE else None
    # What others have finished since the history was read can only make ours rank lower.
    if value is not None and history.is_among_best(value):
        history.add(study.trials)
    if value is None or lineage not in history.best:
        study.checkpoints.delete(lineage)
    for fallen in history.take_fallen():
        study.checkpoints.delete(fallen)


def stop_on_signals(stop: threading.Event, say: Callable[[str], None]) -> None:
    """Let SIGTERM and SIGINT ask for a stop, another SIGINT end the process at once.

    A worker started by a supervisor also stops when that is gone, whatever ended it. One that is
    asked to stop leaves within `STOP_SECONDS`, also when the database is away.
    """

    on_signal = stopping(stop)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)

    def leave() -> None:
        stop.wait()
        time.sleep(STOP_SECONDS)
        say("not through in time; a trial that runs goes on elsewhere when its lease has run out")
        os._exit(1)

    threading.Thread(target=leave, name="leave", daemon=True).start()
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:

        def watch() -> None:
            while os.getppid() == int(parent):
                time.sleep(1.0)
            say("the supervisor is gone; stopping")
            stop.set()

        threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def _hard_stop(study: Study, claim: Claim, stop: threading.Event) -> Iterator[None]:
    """Leave in time even when the problem is deaf: hand back from beside it and exit."""
    over = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            if over.is_set():
                return
        if not over.wait(HARD_STOP_SECONDS):
            try:
                study.ledger.release(claim)
            finally:
                os._exit(0)

    threading.Thread(target=watch, name="hard-stop", daemon=True).start()
    try:
        yield
    finally:
        over.set()
