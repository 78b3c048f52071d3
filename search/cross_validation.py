"""A trial over folds: `cross_validate`, what the `run` of a cross-validated problem calls."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from search.problem import TrialContext

__all__ = ["FOLD_SCORE", "FOLD_TRAIN_SCORE", "Fold", "FoldContext", "cross_validate"]

# Names of the curves; their steps are folds, from 1.
FOLD_SCORE = "fold_score"
FOLD_TRAIN_SCORE = "fold_train_score"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The figures of one finished fold."""

    fold_score: float  # the study's metric on the part that was held out
    fold_train_score: float  # the same on the part that was trained on
    fit_seconds: float
    score_seconds: float  # for both scores


class FoldContext:
    """One fold of a trial, as `fit` sees it. Its checkpoint is the fold's own."""

    def __init__(
        self, run: TrialContext, index: int, finished: list[Fold], checkpoint: bytes
    ) -> None:
        self.index = index  # from 0
        self.params: Mapping[str, Any] = run.params
        self.seed = run.seed  # the same in every fold
        self._run = run
        self._finished = finished
        self._checkpoint = checkpoint

    @property
    def should_stop(self) -> bool:
        """See `search.problem.TrialContext.should_stop`."""
        return self._run.should_stop

    def load_checkpoint(self) -> bytes | None:
        """What an earlier attempt saved within this fold."""
        return self._checkpoint or None

    def save_checkpoint(self, data: bytes) -> None:
        """Replace the fold's checkpoint, whole or not at all."""
        self._run.save_checkpoint(_pack(self._finished, data))


def cross_validate(run: TrialContext, folds: int, fit: Callable[[FoldContext], Fold]) -> float:
    """Run a trial fold by fold; the value is the mean of the folds' scores.

    After each fold the mean of the folds so far is reported, so a pruner acts between folds. A
    retried trial goes on at the fold that was not finished, and within it where `fit` saved a
    checkpoint.

    Args:
        fit: trains and scores one fold. What it raises ends the trial; when `should_stop` turned
            true it raises `TrialStopped`.

    Raises:
        TrialPruned, TrialStopped: passed through from `run` and `fit`.
    """
    finished, checkpoint = _unpack(run.load_checkpoint())
    for step in range(1, len(finished) + 1):
        _report(run, finished[:step])
    for index in range(len(finished), folds):
        finished.append(fit(FoldContext(run, index, list(finished), checkpoint)))
        checkpoint = b""
        run.save_checkpoint(_pack(finished, checkpoint))
        _report(run, finished)
    return _mean(finished)


def _report(run: TrialContext, finished: list[Fold]) -> None:
    run.report(len(finished), _mean(finished), **asdict(finished[-1]))


def _mean(finished: list[Fold]) -> float:
    return fmean(fold.fold_score for fold in finished)


def _pack(finished: list[Fold], checkpoint: bytes) -> bytes:
    """One line of JSON with the finished folds, then the bytes of the one at work."""
    return json.dumps([asdict(fold) for fold in finished]).encode() + b"\n" + checkpoint


def _unpack(packed: bytes | None) -> tuple[list[Fold], bytes]:
    if packed is None:
        return [], b""
    head, _, checkpoint = packed.partition(b"\n")
    return [Fold(**fold) for fold in json.loads(head)], checkpoint
