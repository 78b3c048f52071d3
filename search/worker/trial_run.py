"""What a problem gets for one trial: `TrialRun`, the worker's `TrialContext`."""

import math
import operator
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import optuna

from search import attributes
from search.ledger import Choice, Fenced
from search.problem import TrialPruned, TrialStopped
from search.storage.checkpoint import CheckpointStore

__all__ = ["TrialRun", "checked_report"]

# What a report may hold at most, as every step is stored and all curves are written with each.
MOST_STEP = 2**31 - 1  # of the database's integer
MOST_CURVES = 1_000
NAME_CHARACTERS = 200  # of a curve's name


def checked_report(
    step: int, value: float, curves: Mapping[str, float]
) -> tuple[int, float, dict[str, float]]:
    """What a problem reports, as numbers of Python: it may have those of numpy or torch.

    Raises:
        TypeError: one of them is no number.
        ValueError: see `search.problem.TrialContext.report`.
    """
    step, value = operator.index(step), float(value)
    if not 0 <= step <= MOST_STEP:
        raise ValueError(f"need a step of 0 to {MOST_STEP}, got {step}")
    figures = {name: float(figure) for name, figure in curves.items()}
    length = max(map(len, figures), default=0)
    if length > NAME_CHARACTERS:
        raise ValueError(
            f"need names of curves of at most {NAME_CHARACTERS} characters, got {length}"
        )
    return step, value, figures


class TrialRun:
    """One attempt at a trial, in front of the storage.

    Args:
        trial: Optuna's trial, RUNNING, with its parameters sampled.
        lineage: the index under which the checkpoint is kept.
        attempt: of the lineage; a later one's checkpoint is not touched.
        stop: set when the worker was asked to stop.
        lost: set when this worker no longer holds the lease of the attempt.
        held: set when somebody has paused the study.
        timeout_seconds: of this attempt; None for no limit.
        last_value: the metric at the last step of the attempt before; None without any.
        batch: makes one transaction of the writes inside it.
        prunable: whether the pruner is asked.
        audited: whether the trial is marked and runs on when the pruner would end it.
        pause_at: the step at which the trial is due to pause; None: it runs to its end.
        go_on: called then; what lets the trial go on at once, or None: it pauses.
        timed: whether the seconds of each step are recorded.
        wanted: names of the metrics that the study needs.
        report: stores a value and its step; None: Optuna's `Trial.report`.

    Attributes:
        paused: whether the trial pauses, so that the problem was told to stop.
        storage_error: what the storage raised while the problem ran. The trial is then released:
            such an error is not the problem's, also where the problem catches it.
        decision_error: what was raised when it was asked whether the trial goes on; as above.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        *,
        params: Mapping[str, Any],
        seed: int,
        lineage: int,
        attempt: int,
        checkpoints: CheckpointStore,
        stop: threading.Event,
        lost: threading.Event,
        held: threading.Event,
        timeout_seconds: float | None,
        last_value: float | None,
        batch: Callable[[], AbstractContextManager[None]],
        prunable: bool,
        audited: bool,
        pause_at: int | None = None,
        go_on: Callable[[], Choice | None] = lambda: None,
        timed: bool = False,
        wanted: Collection[str] = (),
        report: Callable[[float, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.params = params
        self.seed = seed
        self.wanted = wanted
        self.last_value = last_value
        self.storage_error: Exception | None = None
        self.decision_error: Exception | None = None
        self.paused = False
        self._trial = trial
        self._report = report or trial.report
        self._lineage = lineage
        self._attempt = attempt
        self._checkpoints = checkpoints
        self._stop = stop
        self._lost = lost
        self._held = held
        self._clock = clock
        self._batch = batch
        self._prunable = prunable
        self._audited = audited
        self._pause_at = pause_at
        self._go_on = go_on
        self._timed = timed
        self._step_seconds: list[float] = list(trial.user_attrs.get(attributes.STEP_SECONDS, []))
        self._since = clock()
        self._deadline = math.inf if timeout_seconds is None else clock() + timeout_seconds
        curves = trial.user_attrs.get(attributes.CURVES, {})
        self._curves: dict[str, list[float | None]] = {k: list(v) for k, v in curves.items()}

    @property
    def timed_out(self) -> bool:
        """Whether this attempt has used up its time."""
        return self._clock() > self._deadline

    @property
    def should_stop(self) -> bool:
        """See `search.problem.TrialContext.should_stop`."""
        return (
            self.paused
            or self._stop.is_set()
            or self._lost.is_set()
            or self._held.is_set()
            or self.timed_out
            or self.storage_error is not None
            or self.decision_error is not None
        )

    def load_checkpoint(self) -> bytes | None:
        """See `search.problem.TrialContext.load_checkpoint`."""
        expected = bool(self._curves.get("step"))
        return self._checkpoints.load(
            self._lineage, params=self.params, attempt=self._attempt, expected=expected
        )

    def save_checkpoint(self, data: bytes) -> None:
        """See `search.problem.TrialContext.save_checkpoint`."""
        if not self._lost.is_set():
            self._checkpoints.save(self._lineage, data, attempt=self._attempt, params=self.params)

    def report(self, step: int, value: float, **curves: float) -> None:
        """See `search.problem.TrialContext.report`."""
        # What is wrong here is the problem's fault, what fails below is the storage's.
        step, value, figures = checked_report(step, value, curves)
        steps = self._curves.setdefault("step", [])
        count = len((self._curves.keys() | figures.keys()) - {"step"})
        if count > MOST_CURVES:
            raise ValueError(f"need at most {MOST_CURVES} curves, got {count}")
        if step not in steps:
            self._append(step, figures)
            with self.storing():
                self._record(step, value)
        # A step that was recorded before may be due as well: its worker died before it paused.
        if self._pause_at is not None and step >= self._pause_at and not self.should_stop:
            self._decide()
        self._since = self._clock()  # the storage's time, and a repeated step's, belong to no step
        if self.should_stop:
            raise TrialStopped

    def _record(self, step: int, value: float) -> None:
        with self._batch():
            self._trial.set_user_attr(attributes.CURVES, self._curves)
            if self._timed:
                self._step_seconds.append(round(self._clock() - self._since, 3))
                self._trial.set_user_attr(attributes.STEP_SECONDS, self._step_seconds)
            self._report(value, step)
        self.last_value = value
        if self._prunable and self._trial.should_prune():
            if not self._audited or math.isnan(value):  # of NaN the pruner cannot be wrong
                raise TrialPruned
            self._prunable = False
            mark = {"trial": self._trial.number, "step": step, "value": value}
            self._trial.set_user_attr(attributes.AUDIT, mark)

    def _decide(self) -> None:
        """Ask whether the trial goes on past its pause."""
        try:
            choice = self._go_on()
        except Fenced:
            self._lost.set()
        except Exception as error:
            self.decision_error = error
        else:
            self.paused = choice is None
            self._pause_at = None if choice is None else choice.pause_at

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Keep what the storage raises apart from what the problem raises."""
        try:
            yield
        except (TrialPruned, MemoryError):
            raise
        except optuna.exceptions.UpdateFinishedTrialError:
            self._lost.set()
            raise TrialStopped from None
        except Exception as error:
            self.storage_error = error
            raise TrialStopped from error

    def _append(self, step: int, curves: Mapping[str, float]) -> None:
        """Add one step; JSON has no NaN, so a value that is not finite becomes null."""
        steps = self._curves["step"]
        for name in (self._curves.keys() | curves.keys()) - {"step"}:
            column = self._curves.setdefault(name, [None] * len(steps))
            number = curves.get(name, math.nan)
            column.append(number if math.isfinite(number) else None)
        steps.append(step)
