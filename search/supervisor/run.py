"""What the command line and Python users call: run a study, and run one of its trials again."""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.errors import NoResult, SearchError, StorageError, StudyHalted
from search.problem import Diverged, TrialPruned
from search.signals import stopping
from search.study import Study
from search.study.status import Status
from search.supervisor.fleet import Fleet, worker_command
from search.worker.contract import STORAGE_VARIABLE

__all__ = [
    "Epoch",
    "Interrupted",
    "Progress",
    "Replay",
    "annotate",
    "differences",
    "reproduce",
    "run",
    "same",
]

LOOK_SECONDS = 1.0  # between two looks at the storage


class Progress(Protocol):
    """Where the supervisor shows how a study goes."""

    def __enter__(self) -> "Progress": ...
    def __exit__(self, *exc: object) -> None: ...
    def update(self, status: Status) -> None:
        """Show the present state."""
        ...

    def say(self, line: str) -> None:
        """Show one event that is worth keeping."""
        ...


class Interrupted(SearchError):
    """The user asked the study to stop; every trial was handed back."""


def run(
    study: Study,
    *,
    workers: int,
    threads: int,
    gpus: tuple[str, ...] = (),
    logs: Path,
    progress: Progress,
) -> Status:
    """Start workers and tend them until the budget is used up.

    Args:
        threads: of each worker, for its arithmetic.
        gpus: indices dealt out to the workers in turn.
        logs: directory for the workers' output.

    Returns:
        The study as it stands at the end.

    Raises:
        Interrupted: SIGINT or SIGTERM; the trials were handed back and go on with the next run.
        StudyHalted: the same error ended several trials in a row.
        SearchError: a worker refused, or workers died as soon as they had started.
    """
    study.ledger.resume()
    fleet = Fleet(
        worker_command(study.name, study.checkpoints.address),
        environment={
            STORAGE_VARIABLE: study.storage.address,
            "OMP_NUM_THREADS": str(threads),
        },
        logs=logs,
        gpus=gpus,
        on_death=study.ledger.release_worker,
        say=progress.say,
    )
    with _interrupts() as asked, study.storage.retry.until(asked), progress:
        try:
            fleet.start(workers)
            status = _tend(study, fleet, progress, asked)
            if status is not None:
                return status
            progress.say("stopping: the workers hand their trials back")
            try:
                fleet.stop()
            except StorageError:  # the database is away
                progress.say("what they could not hand back goes on when its lease has run out")
            raise Interrupted(f"study {study.name!r} was stopped")
        finally:
            fleet.stop()


def _tend(study: Study, fleet: Fleet, progress: Progress, asked: threading.Event) -> Status | None:
    """Look after the workers until the study has ended; None once `asked` is set."""
    ended = -1
    while not asked.is_set():
        try:
            study.ledger.reap()
            status = study.status()
            progress.update(status)
            if status.ended != ended:
                ended = status.ended
                annotate(study, say=progress.say)
            if status.halted is not None:
                raise _halted(study, status)
            if fleet.alive == 0 and not _is_unfinished(status):
                return status
            try:
                fleet.tend(
                    (status.ended, sum(len(t.intermediate_values) for t in status.trials)),
                    lambda: _is_unfinished(study.status()),
                )
            except SearchError:
                status = study.status()  # a worker may end of a halt before we have seen it
                if status.halted is not None:
                    raise _halted(study, status) from None
                raise
        except StorageError:
            if not asked.is_set():  # else it is away, and was not waited for any longer
                raise
        asked.wait(LOOK_SECONDS)
    return None


def annotate(
    study: Study, *, remarks: Sequence[str] = (), say: Callable[[str], None] = print
) -> None:
    """Bring the note on the study's page in the dashboard up to date.

    A study does not fail for a page: what goes wrong is said, and passed over.

    Args:
        remarks: further paragraphs, in Markdown.
    """
    from search.dashboard import annotate as write

    try:
        write(study.optuna, metric=study.spec.metric, remarks=remarks)
    except Exception as error:
        say(f"the dashboard's note was not written: {type(error).__name__}: {error}")


def _is_unfinished(status: Status) -> bool:
    return not (status.done or status.out_of_time)


def _halted(study: Study, status: Status) -> StudyHalted:
    """The error to raise, with the traceback of the cause as its note."""
    error = StudyHalted(study.name, status.halted or "")
    for trial in reversed(status.finished):
        if (
            trial.user_attrs.get(attributes.ERROR) == status.halted
            and attributes.TRACEBACK in trial.user_attrs
        ):
            error.add_note(str(trial.user_attrs[attributes.TRACEBACK]))
            break
    return error


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set on the first SIGINT or SIGTERM; another SIGINT ends the process at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    handler = stopping(asked)
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def same(stored: float | None, new: float | None) -> bool:
    """Whether two figures agree to the last bit; one NaN agrees with another."""
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
        """Whether both sides say the same, to the last bit."""
        return all(same(stored, new) for stored, new in self.figures.values())


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The outcome of a reproduction.

    value: (stored, new); of a trial that ended without a value the metric at its last step.
    environment: what differs: key -> (stored, here).
    """

    trial: FrozenTrial
    epochs: tuple[Epoch, ...]
    value: tuple[float | None, float | None]
    environment: Mapping[str, tuple[str, str]]

    @property
    def identical(self) -> bool:
        """Whether every figure of every step, and the value, came out the same."""
        return same(*self.value) and all(epoch.identical for epoch in self.epochs)


#: How names of figures end that tell how long something took, which no one promises to repeat.
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
        ProblemError: the data here are not those of the study.
    """
    trial = study.trial(number)
    if not trial.intermediate_values:
        raise NoResult(
            f"trial {trial.number} of study {study.name!r} recorded no step, so there is nothing "
            "to compare; choose another with --trial"
        )
    stored_environment = trial.user_attrs.get(attributes.ENVIRONMENT, {})
    os.environ["OMP_NUM_THREADS"] = stored_environment.get("threads", "1")
    replay = _ReplayRun(study, trial, on_epoch)
    value: float | None
    try:
        value = study.problem.run(replay)
    except (TrialPruned, Diverged):
        value = replay.last_value
    steps = trial.intermediate_values
    return Replay(
        trial=trial,
        epochs=tuple(replay.epochs),
        value=(steps[max(steps)] if trial.value is None else trial.value, value),
        environment=differences(stored_environment, study.problem.environment()),
    )


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
        self.seed = study.spec.trial_seed(trial.user_attrs[attributes.LINEAGE])
        self.epochs: list[Epoch] = []
        self.last_value: float | None = None
        self.checkpoint: bytes | None = None
        self._trial = trial
        self._metric = study.spec.metric
        self._on_epoch = on_epoch
        self._last = max(trial.intermediate_values)

    def load_checkpoint(self) -> bytes | None:
        return None

    def save_checkpoint(self, data: bytes) -> None:
        self.checkpoint = data

    def report(self, step: int, value: float, **curves: float) -> None:
        self.last_value = value
        stored = self._stored(step)
        figures: dict[str, tuple[float | None, float | None]] = {
            self._metric: (self._trial.intermediate_values.get(step), value)
        }
        for name, new in curves.items():
            if not name.endswith(_TIMINGS) and name != self._metric:
                # A curve is stored as JSON, with null for what is no finite number.
                figures[name] = (stored.get(name), new if math.isfinite(new) else None)
        epoch = Epoch(step=step, figures=figures)
        self.epochs.append(epoch)
        self._on_epoch(epoch)
        if step == self._last and self._trial.state is not TrialState.COMPLETE:
            raise TrialPruned

    def _stored(self, step: int) -> dict[str, float | None]:
        curves = self._trial.user_attrs.get(attributes.CURVES, {})
        steps = curves.get("step", [])
        if step not in steps:
            return {}
        return {name: column[steps.index(step)] for name, column in curves.items()}
