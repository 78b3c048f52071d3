"""Where candidates come from and where their folds go: the contract, and a study in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.errors import SearchError
from search.sklearn.distributions import Distributions
from search.sklearn.proposals import Draws, Proposals

__all__ = [
    "Candidate",
    "Candidates",
    "MemoryCandidates",
    "fold_score",
    "mean_score",
    "with_float_scores",
]

#: What scikit-learn's `_fit_and_score` returns for one fold.
Fold = dict[str, Any]


@dataclass
class Candidate:
    """One row of `cv_results_`: its parameters and the folds that were run.

    `stopped_by` says why some were not: "pruner" or "timeout", and "" when none is missing.
    """

    index: int
    params: Mapping[str, Any]
    folds: dict[int, Fold] = field(default_factory=dict)
    stopped_by: str = ""


class Candidates(Protocol):
    """A search's candidates, handed out one at a time."""

    def claim(self) -> Candidate | None:
        """The next candidate, ours until it has ended or is released; None when none is free."""
        ...

    def record(self, candidate: Candidate, fold: int, result: Fold) -> bool:
        """Keep a fold that was run; with its last one a candidate has ended.

        Returns:
            False when the candidate was no longer ours, and the fold is dropped.
        """
        ...

    def should_prune(self, candidate: Candidate) -> bool:
        """Whether the pruner gives up on the candidate, given its folds so far."""
        ...

    def prune(self, candidate: Candidate) -> None:
        """End the candidate without its missing folds."""
        ...

    def release(self, candidate: Candidate) -> None:
        """No further fold is run here."""
        ...

    def pending(self) -> bool:
        """Whether candidates are unfinished, here or elsewhere."""
        ...

    def seen(self) -> Iterable[Candidate]:
        """Every candidate with at least one fold, whoever ran it."""
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...


def with_float_scores(result: Fold) -> Fold:
    """The result with each score as a float: a scorer may return any number.

    Raises:
        SearchError: a score is complex, or too large for a float.
    """
    scores = {key: result[key] for key in ("test_scores", "train_scores") if key in result}
    return {
        **result,
        **{
            key: {name: _float(item) for name, item in value.items()}
            if isinstance(value, Mapping)
            else _float(value)
            for key, value in scores.items()
        },
    }


def _float(score: Any) -> float:
    try:
        return float(score)
    except (TypeError, ValueError, OverflowError) as error:
        raise SearchError(
            f"a score must be a real number that fits a float, got {score!r:.80}; change scoring"
        ) from error


def fold_score(result: Fold, metric: str | None) -> float:
    """The score of one fold that the sampler and the pruner follow.

    Args:
        metric: which of several metrics; None for the first.

    Raises:
        SearchError: there is no such metric. What a scorer gives is known after the first fit.
    """
    scores = result["test_scores"]
    if not isinstance(scores, Mapping):
        return float(scores)
    if metric is None:
        return float(next(iter(scores.values())))
    if metric not in scores:
        raise SearchError(
            f"refit names the metric whose best candidate is fitted: need one of "
            f"{', '.join(map(repr, scores))}, got {metric!r}; correct refit"
        )
    return float(scores[metric])


def mean_score(candidate: Candidate, metric: str | None) -> float:
    """The mean over the folds that were run; NaN when one of them failed."""
    return float(np.mean([fold_score(f, metric) for f in candidate.folds.values()]))


class MemoryCandidates:
    """Candidates that live and die with this process, as trials of an Optuna study in memory.

    Args:
        points: the candidates, or who proposes them.
    """

    def __init__(
        self,
        distributions: Distributions,
        points: Draws | Proposals,
        n_candidates: int,
        n_splits: int,
        pruner: BasePruner,
        metric: str | None,
    ) -> None:
        self._distributions, self._points = distributions, points
        self._n_candidates, self._n_splits, self._metric = n_candidates, n_splits, metric
        self._study = _study_in_memory(pruner)
        self._trials: list[optuna.Trial] = []
        self._claimed: list[Candidate] = []

    def claim(self) -> Candidate | None:
        index = len(self._claimed)
        if index == self._n_candidates:
            return None
        if isinstance(self._points, Proposals):
            self._study.sampler = self._points.sampler(index)
            self._trials.append(self._study.ask())
            point = self._points.point(self._trials[index], index)
        else:
            self._trials.append(self._study.ask())
            point = self._points.points[index]
        candidate = Candidate(index, self._distributions.params(point))
        self._claimed.append(candidate)
        return candidate

    def record(self, candidate: Candidate, fold: int, result: Fold) -> bool:
        candidate.folds[fold] = result
        trial, score = self._trials[candidate.index], mean_score(candidate, self._metric)
        trial.report(score, step=len(candidate.folds))
        if len(candidate.folds) < self._n_splits:
            return True
        if np.isnan(score):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score)
        return True

    def should_prune(self, candidate: Candidate) -> bool:
        return self._trials[candidate.index].should_prune()

    def prune(self, candidate: Candidate) -> None:
        self._study.tell(self._trials[candidate.index], state=TrialState.PRUNED)

    def release(self, candidate: Candidate) -> None:
        self._study.tell(self._trials[candidate.index], state=TrialState.FAIL)

    def pending(self) -> bool:
        return len(self._claimed) < self._n_candidates

    def seen(self) -> Iterable[Candidate]:
        return [candidate for candidate in self._claimed if candidate.folds]

    def close(self) -> None:
        pass


def _study_in_memory(pruner: BasePruner) -> optuna.Study:
    """A study without the line that Optuna prints when it creates one.

    Its name is always the same, as Hyperband deals trials out to its brackets by it.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            study_name="in-memory", direction="maximize", sampler=RandomSampler(), pruner=pruner
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
