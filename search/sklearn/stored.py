"""Candidates as lineages of a study in a storage: kept fold by fold, shared between processes."""

import contextlib
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.errors import SpecError
from search.ledger import Claim, Fenced
from search.ledger.heartbeat import Heartbeats
from search.sklearn.candidates import Candidate, Fold, mean_score
from search.sklearn.distributions import Distributions, Point
from search.sklearn.encoding import decode, encode
from search.sklearn.proposals import Draws, Proposals
from search.sklearn.stored_study import StoredStudy, process_space, release_dead

__all__ = ["StoredCandidates"]

#: What is kept of a fold; scikit-learn's other entries are not used in `cv_results_`.
MEASURED = ("test_scores", "train_scores", "fit_time", "score_time", "n_test_samples", "fit_error")


class StoredCandidates:
    """See `search.sklearn.candidates.Candidates`.

    A candidate's point is stored with its trial, and whoever goes on with it reads it there: a
    distribution may draw another value each time, whatever its seed.

    Args:
        points: where the points of new candidates come from.
    """

    def __init__(
        self,
        search: StoredStudy,
        distributions: Distributions,
        points: Draws | Proposals,
        n_splits: int,
        pruner: BasePruner,
        metric: str | None,
    ) -> None:
        self._storage, self._ledger = search.storage, search.ledger
        self._distributions, self._points = distributions, points
        self._n_splits, self._metric = n_splits, metric
        self._study = optuna.load_study(
            study_name=search.name,
            storage=self._storage.optuna,
            sampler=RandomSampler(),
            pruner=pruner,
        )
        self._worker = f"{process_space()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._held: dict[int, Claim] = {}
        self._new: dict[int, Point] = {}  # points of held candidates that are not stored yet
        self._beats = Heartbeats(self._ledger)
        release_dead(self._ledger)

    def claim(self) -> Candidate | None:
        claim = self._ledger.claim(self._worker)
        if claim is None:
            return None
        index = claim.lease.lineage
        self._held[index] = claim
        self._beats.hold(claim.lease)
        candidate = Candidate(index, {}, _folds(claim.trial))
        try:
            point = _stored_point(claim.trial) or self._new_point(claim, self._points)
        except BaseException:
            self.release(candidate)
            raise
        candidate.params = self._distributions.params(point)
        return candidate

    def _new_point(self, claim: Claim, points: Draws | Proposals) -> Point:
        if isinstance(points, Proposals):
            return self._propose(claim, points)
        point = points.points[claim.lease.lineage]
        _to_json(point)  # raises before the first fit
        self._new[claim.lease.lineage] = point
        return point

    def _propose(self, claim: Claim, points: Proposals) -> Point:
        """The candidate's point; it is stored at once, for other proposals."""
        index = claim.lease.lineage
        self._study.sampler = points.sampler(index)
        self._study._thread_local.cached_all_trials = None  # as Study.ask does for a new trial
        with self._storage.optuna.batch():
            trial = optuna.Trial(self._study, claim.trial._trial_id)
            point = points.point(trial, index)
            self._store_point(claim, point)
        return point

    def record(self, candidate: Candidate, fold: int, result: Fold) -> bool:
        claim, storage = self._held[candidate.index], self._storage.optuna
        candidate.folds[fold] = result
        measured = {key: encode(result[key]) for key in MEASURED if key in result}
        step, score = len(candidate.folds), mean_score(candidate, self._metric)
        complete = step == self._n_splits
        try:
            if self._beats.is_lost(claim.lease):
                raise Fenced
            with storage.batch():
                if candidate.index in self._new:  # no other proposal waits for it
                    point = self._new.pop(candidate.index)
                    self._distributions.show(storage, claim.trial._trial_id, point)
                    self._store_point(claim, point)
                if not complete:
                    storage.set_trial_user_attr(
                        claim.trial._trial_id, f"{attributes.FOLD}{fold}", measured
                    )
                    storage.set_trial_intermediate_value(claim.trial._trial_id, step, score)
            if complete:  # the last fold and the end are one transaction
                self._end(claim, candidate, {f"{attributes.FOLD}{fold}": measured}, {step: score})
        except (Fenced, optuna.exceptions.UpdateFinishedTrialError):
            self._let_go(candidate)
            return False
        if complete:
            self._let_go(candidate)
        return True

    def _end(
        self,
        claim: Claim,
        candidate: Candidate,
        attrs: dict[str, Any],
        steps: Mapping[int, float],
    ) -> None:
        (score,) = steps.values()
        if math.isnan(score):
            attrs[attributes.ERROR] = _error(candidate)
            self._ledger.end(claim, TrialState.FAIL, reason=Reason.ERROR, attrs=attrs, steps=steps)
        else:
            self._ledger.end(claim, TrialState.COMPLETE, score, attrs=attrs, steps=steps)

    def _store_point(self, claim: Claim, point: Point) -> None:
        """Keep the candidate's point, and show its parameters to people."""
        storage, trial_id = self._storage.optuna, claim.trial._trial_id
        params = self._distributions.params(point)
        readable = {key: _readable(value) for key, value in params.items()}
        storage.set_trial_user_attr(trial_id, attributes.POINT, _to_json(point))
        storage.set_trial_user_attr(trial_id, attributes.PARAMS, readable)

    def should_prune(self, candidate: Candidate) -> bool:
        trial = self._storage.optuna.get_trial(self._held[candidate.index].trial._trial_id)
        return self._study.pruner.prune(self._study, trial)

    def prune(self, candidate: Candidate) -> None:
        claim = self._let_go(candidate)
        score = mean_score(candidate, self._metric)
        with contextlib.suppress(Fenced):  # somebody else goes on with it
            self._ledger.end(claim, TrialState.PRUNED, None if math.isnan(score) else score)

    def release(self, candidate: Candidate) -> None:
        claim = self._let_go(candidate)
        with contextlib.suppress(Fenced):
            self._ledger.release(claim)

    def pending(self) -> bool:
        counts = self._ledger.counts()
        return counts.done < counts.total

    def seen(self) -> Iterable[Candidate]:
        trials = self._storage.optuna.get_all_trials(self._ledger.study_id, deepcopy=False)
        latest = {
            trial.user_attrs[attributes.LINEAGE]: trial for trial in trials
        }  # in order of number
        done = {row.lineage for row in self._ledger.rows() if row.done}
        for index, trial in latest.items():
            folds, point = _folds(trial), _stored_point(trial)
            if not folds or point is None:
                continue
            candidate = Candidate(index, self._distributions.params(point), folds)
            if trial.state is TrialState.PRUNED:
                candidate.stopped_by = "pruner"
            elif index in done:
                candidate.stopped_by = "lost"  # its processes died, again and again
            yield candidate

    def close(self) -> None:
        self._beats.close()
        self._storage.close()

    def _let_go(self, candidate: Candidate) -> Claim:
        claim = self._held.pop(candidate.index)
        self._new.pop(candidate.index, None)
        self._beats.drop(claim.lease)
        return claim


def _to_json(point: Point) -> dict[str, Any]:
    values = {}
    for key, value in point.values.items():
        try:
            values[key] = encode(value)
        except SpecError as error:
            raise SpecError(f"a value drawn for {key!r} cannot be kept: {error}") from error
    return {"part": point.part, "values": values}


def _stored_point(trial: FrozenTrial) -> Point | None:
    stored = trial.user_attrs.get(attributes.POINT)
    if stored is None:
        return None
    return Point(stored["part"], {key: decode(item) for key, item in stored["values"].items()})


def _folds(trial: FrozenTrial) -> dict[int, Fold]:
    return {
        int(key.removeprefix(attributes.FOLD)): {name: decode(item) for name, item in value.items()}
        for key, value in trial.user_attrs.items()
        if key.startswith(attributes.FOLD)
    }


def _error(candidate: Candidate) -> str:
    """The last line of the first failed fold's traceback."""
    errors = [fold["fit_error"] for fold in candidate.folds.values() if fold.get("fit_error")]
    return str(errors[0]).strip().splitlines()[-1] if errors else "a score is not a number"


def _readable(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    finite = not isinstance(plain, float) or math.isfinite(plain)
    return plain if isinstance(plain, bool | int | float | str | None) and finite else repr(plain)
