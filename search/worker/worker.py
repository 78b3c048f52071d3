"""The life of one worker: claim a trial, run it, record its end, and again until all have ended."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import optuna
from optuna.trial import TrialState

from search import attributes
from search.attributes import Reason
from search.errors import SearchError, StorageError, StudyHalted
from search.ledger import Claim, Fenced
from search.ledger.heartbeat import Heartbeat
from search.problem import Diverged, TrialPruned, TrialStopped
from search.study import Study
from search.study.confirmation.repeats import problem_of
from search.study.load_problem import labels_of
from search.text import describe_error
from search.worker.claims import Claims
from search.worker.failure import describe_failure
from search.worker.history import History
from search.worker.idle import Idle
from search.worker.result import metrics_of
from search.worker.stop import hard_stop
from search.worker.suggest import set_constraints, suggest
from search.worker.trial_run import TrialRun

__all__ = ["work"]

log = logging.getLogger(__name__)

SAME_ERRORS = 3  # in a row, then the study is halted: a typo must not burn a budget
CHECKPOINTS_KEPT = 5  # of the best feasible trials, or all of a front: for `export`


class _Leaves(Enum):
    """How a trial leaves its worker that has not ended."""

    RELEASED = "released"  # whoever is free goes on
    PAUSED = "paused"  # a decision lets it go on


@dataclass(frozen=True, kw_only=True)
class _Ending:
    state: TrialState
    values: Sequence[float] = ()  # one of each metric, or none
    reason: Reason | None = None
    attrs: Mapping[str, Any] | None = None


def work(
    study: Study,
    *,
    name: str,
    stop: threading.Event,
    on_trial: Callable[[], None] = lambda: None,
) -> bool:
    """Run trials of a study until all lineages have ended, its budget is used up, or `stop` is set.

    Args:
        name: of this worker; no other process has it.
        on_trial: called after each trial that this worker has ended.

    Returns:
        Whether the study is over; False when `stop` ended the work before.

    Raises:
        StudyHalted: the same error ended several trials in a row.
        ProblemError: the problem cannot be built here, or on other data than the study's.
        StorageError: the storage failed for good; a trial that ran was released if possible.
    """
    confirm = study.spec.confirm
    kept = max(CHECKPOINTS_KEPT, confirm.top if confirm else 0)
    history = History(study.spec.directions, kept, study.params)
    claims = Claims(study, name)
    idle = Idle(study.ledger.limits.timing.heartbeat_seconds)
    waits = False  # for somebody to resume the study
    while not stop.is_set():
        standing = study.ledger.standing()
        if standing.halted is not None:
            raise StudyHalted(study.name, standing.halted)
        study.refresh()  # the study may have been amended
        if standing.held_since is not None:
            if not waits:
                log.info("the study is paused; waiting until somebody resumes it")
            waits = True
            counts = study.ledger.counts()
            if counts.done == study.spec.trials or (
                counts.done == counts.begun and study.used_up()
            ):
                return True
            study.ledger.reap()
            idle.wait(stop)
            continue
        waits = False
        claim = claims.next(stop)
        if claim is None:
            used_up = study.used_up()
            if used_up or not study.ledger.busy():  # else it is not over, and counting is dear
                counts = study.ledger.counts()
                if counts.done == counts.total:
                    return True
                by_rule = study.ended_by() is not None
                if used_up and counts.paused and claims.end_paused(by_rule=by_rule):
                    continue
                if used_up and counts.done == counts.begun:
                    end = study.ended_by()
                    log.info("%s", end.text if end else "the study's hours or steps are used up")
                    return True
            idle.wait(stop)
            continue
        idle.end()
        if claim.lease.attempt == 1:
            log.info("trial %d begins", claim.trial.number)  # `logs` finds a trial by these lines
        else:
            log.info("trial %d goes on with attempt %d", claim.trial.number, claim.lease.attempt)
        if _attempt(study, claim, claims, history, stop):
            on_trial()
    return False


def _attempt(
    study: Study, claim: Claim, claims: Claims, history: History, stop: threading.Event
) -> bool:
    """Run one trial and record its end; whether this attempt ended its lineage."""
    number = claim.trial.number
    with (
        Heartbeat(study.ledger, claim.lease) as heartbeat,
        hard_stop(stop, lambda: study.ledger.release(claim)),
    ):
        try:
            ending = _run(study, claim, claims, history, stop, heartbeat)
        except BaseException:
            with suppress(Fenced):
                study.ledger.release(claim)
            raise
    try:
        if heartbeat.lost.is_set():
            raise Fenced
        if ending is _Leaves.RELEASED:
            study.ledger.release(claim)
            log.info("trial %d was released", number)
            return False
        if ending is _Leaves.PAUSED:
            study.ledger.pause(claim)
            log.info("trial %d pauses", number)
            return False
        study.ledger.end(
            claim, ending.state, ending.values, reason=ending.reason, attrs=ending.attrs
        )
    except Fenced:
        return _taken(study, claim)
    if ending.reason is Reason.ERROR:
        _halt_on_same_errors(study)
    _sweep(study, claim, ending, history)
    reason = f" ({ending.reason.value})" if ending.reason else ""
    log.info("trial %d ended %s%s", number, ending.state.name, reason)
    if ending.reason is Reason.ERROR:
        log.error("%s", (ending.attrs or {})[attributes.TRACEBACK])
    return True


def _taken(study: Study, claim: Claim) -> bool:
    """Say why a trial is no longer this worker's; whether somebody stopped it for good."""
    number, lineage = claim.trial.number, claim.lease.lineage
    study.storage.optuna.forget(claim.trial._trial_id)
    reason = None
    with suppress(SearchError):  # the study was deleted: the next claim says so
        reason = study.trial(number).user_attrs.get(attributes.REASON)
        rows = study.ledger.rows(begun=True)
        if any(row.lineage == lineage and row.done for row in rows):
            # This worker may have saved one since the others were deleted.
            study.checkpoints.delete(lineage, attempt=claim.lease.attempt)
    if reason == Reason.BY_HAND.value:
        log.info("trial %d was stopped by hand", number)
        return True
    log.warning("trial %d: lease lost (reassigned or ended elsewhere); result dropped", number)
    return False


def _run(
    study: Study,
    claim: Claim,
    claims: Claims,
    history: History,
    stop: threading.Event,
    heartbeat: Heartbeat,
) -> _Ending | _Leaves:
    """Carry the problem through; how the trial ended, or that it goes on later.

    Raises:
        StorageError: the storage failed while the trial ran.
        KeyboardInterrupt: a user's, in a notebook.
    """
    spec, lineage = study.specs.of(claim.trial), claim.lease.lineage
    run: TrialRun | None = None
    try:
        with study.storage.optuna.batch():
            proposal = suggest(study, claim, history)
        if not proposal.feasible:
            return _Ending(state=TrialState.PRUNED, reason=Reason.INFEASIBLE)
        trial, params = proposal.trial, proposal.params
        problem = problem_of(study.problem, spec, lineage)
        if problem is not study.problem:
            trial.set_user_attr(
                attributes.DATA, labels_of(problem, study.spec.problem, "fingerprint")
            )
        steps = claim.trial.intermediate_values
        run = TrialRun(
            trial,
            params=params,
            seed=spec.trial_seed(lineage),
            lineage=lineage,
            attempt=claim.lease.attempt,
            checkpoints=study.checkpoints,
            stop=stop,
            lost=heartbeat.lost,
            held=heartbeat.held,
            timeout_seconds=spec.workers.trial_timeout_seconds,
            last_value=steps[max(steps)] if steps else None,
            batch=study.storage.optuna.batch,
            prunable=len(spec.aims) == 1
            and not spec.is_control(lineage)
            and attributes.AUDIT not in trial.user_attrs,
            audited=spec.is_audited(lineage),
            pause_at=claim.pause_at,
            go_on=lambda: claims.go_on(claim),
            timed=study.pauses and spec.hours is not None,
            wanted=spec.wanted,
            report=proposal.report if len(spec.aims) > 1 else None,
        )
        returned = problem.run(run)
        ending: _Ending | _Leaves = _Leaves.PAUSED
        if not run.paused:  # else the problem did not let `TrialStopped` pass
            metrics = metrics_of(spec, returned, proposal.metrics)
            ending = _Ending(
                state=TrialState.COMPLETE,
                values=[metrics[name] for name in spec.metrics],
                attrs={attributes.METRICS: _finite(metrics)} if len(metrics) > 1 else None,
            )
            if spec.constraints:
                with run.storing(), study.storage.optuna.batch():
                    set_constraints(trial, spec, metrics)
    except optuna.exceptions.UpdateFinishedTrialError:
        heartbeat.lost.set()
        return _Leaves.RELEASED
    except BaseException as error:
        if run is None and _is_of_storage(error):
            raise StorageError(f"the storage failed: {describe_error(error)}") from error
        if isinstance(error, KeyboardInterrupt) and _interrupts_python():
            raise
        ending = _ending(error, study, run, released=_is_released(stop, heartbeat))
    if run is not None and run.decision_error is not None:
        raise run.decision_error
    if run is not None and run.storage_error is not None:
        if isinstance(run.storage_error, KeyError):  # there is no such trial
            study.ledger.reap()  # which says so where the study was deleted
        raise StorageError(
            f"the storage failed while trial {claim.trial.number} ran: "
            f"{describe_error(run.storage_error)}; the trial goes on with another worker"
        ) from run.storage_error
    return ending


def _is_released(stop: threading.Event, heartbeat: Heartbeat) -> bool:
    """Whether the trial was to leave this worker without an end of its own."""
    return stop.is_set() or heartbeat.lost.is_set() or heartbeat.held.is_set()


def _ending(
    error: BaseException, study: Study, run: TrialRun | None, *, released: bool
) -> _Ending | _Leaves:
    """How an exception ends a trial, or that it goes on later.

    Args:
        released: whether the worker was asked to stop or has lost the lease, or the study was
            paused.
    """
    last = run.last_value if run else None
    # With two metrics a trial that was not complete has no values: not all are known.
    values = () if last is None or len(study.spec.aims) > 1 else (last,)
    if isinstance(error, TrialPruned):
        return _Ending(state=TrialState.PRUNED, values=values)
    if isinstance(error, TrialStopped):
        if run is not None and run.paused:
            return _Leaves.PAUSED
        if released or run is None:
            return _Leaves.RELEASED
        return _Ending(state=TrialState.PRUNED, values=values, reason=Reason.TIMEOUT)
    if isinstance(error, Diverged | MemoryError):
        name, _, message = describe_error(error).partition(": ")
        diverged = isinstance(error, Diverged)
        return _Ending(
            state=TrialState.PRUNED if diverged else TrialState.FAIL,
            values=values if diverged else (),
            reason=Reason.DIVERGED if diverged else Reason.OUT_OF_MEMORY,
            attrs={attributes.ERROR: message or name},
        )
    return _Ending(
        state=TrialState.FAIL,
        reason=Reason.ERROR,
        attrs=describe_failure(error, study.problem),
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN, so a value that is not finite becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _is_of_storage(error: BaseException) -> bool:
    """Whether the database or its driver raised an exception."""
    from sqlalchemy.exc import SQLAlchemyError

    ours = (StorageError, SQLAlchemyError, optuna.exceptions.StorageInternalError)
    return isinstance(error, ours) or type(error).__module__.startswith(("sqlite3", "psycopg"))


def _interrupts_python() -> bool:
    """Whether Ctrl-C raises `KeyboardInterrupt` here; otherwise only the problem can raise it."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _halt_on_same_errors(study: Study) -> None:
    recent = study.ledger.recent_errors(SAME_ERRORS)
    if len(recent) == SAME_ERRORS and recent[0] and len(set(recent)) == 1:
        study.ledger.halt(recent[0])


def _sweep(study: Study, claim: Claim, ending: _Ending, history: History) -> None:
    """Keep the checkpoints of the best feasible trials only, so that the disk stays bounded."""
    lineage = claim.lease.lineage
    complete = ending.state is TrialState.COMPLETE
    # What others have finished since the history was read can only make ours rank lower.
    if complete and history.is_among_best(ending.values):
        history.add(study.trials)
    if not complete or lineage not in history.best:
        study.checkpoints.delete(lineage, attempt=claim.lease.attempt)
    for fallen in history.take_fallen():
        study.checkpoints.delete(fallen)
