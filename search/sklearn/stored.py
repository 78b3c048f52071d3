"""Candidates as lineages of a study in a storage: kept fold by fold, shared between processes."""

import contextlib
import math
import os
import platform
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.random import RandomState
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.errors import StorageError
from search.ledger import Claim, Fenced, Ledger
from search.ledger.heartbeat import Heartbeats
from search.sklearn.candidates import Candidate, Fold, mean_score
from search.sklearn.distributions import Distributions, Point
from search.sklearn.fingerprint import check_same
from search.sklearn.proposals import Proposals
from search.storage import Storage, open_storage

__all__ = ["StoredCandidates", "StoredSearch"]

#: What is kept of a fold; scikit-learn's other entries are not used in `cv_results_`.
MEASURED = ("test_scores", "train_scores", "fit_time", "score_time", "n_test_samples", "fit_error")


class StoredSearch:
    """The study of a search: created by the first process, opened and checked by the others.

    Raises:
        SearchChanged: the study holds another search.
        StorageError: the storage cannot be used, or another program made the study.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        fingerprint: Mapping[str, Sequence[str]],
        random_state: Any,
        n_candidates: int,
        metric: str | None,
    ) -> None:
        self.name = name
        self.storage: Storage = open_storage(url)
        try:
            self.ledger = self._ledger(fingerprint, random_state, n_candidates, metric)
            attrs = self.storage.optuna.get_study_user_attrs(self.ledger.study_id)
            if attributes.SKLEARN not in attrs:
                raise StorageError(
                    f"study {name!r} in {self.storage.url} was not made by StudySearchCV; "
                    "give another study_name"
                )
            check_same(name, attrs[attributes.SKLEARN], fingerprint)
            self.random_state = _from_json(attrs[attributes.RANDOM_STATE])
        except BaseException:
            self.storage.close()
            raise

    def _ledger(
        self,
        fingerprint: Mapping[str, Sequence[str]],
        random_state: Any,
        n_candidates: int,
        metric: str | None,
    ) -> Ledger:
        try:
            return Ledger.create(
                self.storage,
                self.name,
                directions=[StudyDirection.MAXIMIZE],
                lineages=n_candidates,
                user_attrs={
                    attributes.SKLEARN: {part: list(text) for part, text in fingerprint.items()},
                    attributes.RANDOM_STATE: _to_json(random_state),
                },
                system_attrs={attributes.METRIC_NAMES: [f"mean_test_{metric or 'score'}"]},
            )
        except optuna.exceptions.DuplicatedStudyError:
            return Ledger.open(self.storage, self.name)


class StoredCandidates:
    """See `search.sklearn.candidates.Candidates`.

    Args:
        points: the candidates, or who proposes them.
    """

    def __init__(
        self,
        search: StoredSearch,
        distributions: Distributions,
        points: Sequence[Point] | Proposals,
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
        self._worker = f"{_process_space()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._held: dict[int, Claim] = {}
        self._beats = Heartbeats(self._ledger)
        self._release_dead()

    def claim(self) -> Candidate | None:
        claim = self._ledger.claim(self._worker)
        if claim is None:
            return None
        index = claim.lease.lineage
        self._held[index] = claim
        self._beats.hold(claim.lease)
        candidate = Candidate(index, {}, _folds(claim.trial))
        try:
            if isinstance(self._points, Proposals):
                point = self._propose(claim, self._points)
            else:
                point = self._points[index]
        except BaseException:
            self.release(candidate)
            raise
        candidate.params = self._distributions.params(point)
        return candidate

    def _propose(self, claim: Claim, points: Proposals) -> Point:
        """The candidate's point; what is proposed now is stored at once, for other proposals."""
        index = claim.lease.lineage
        self._study.sampler = points.sampler(index)
        self._study._thread_local.cached_all_trials = None  # as Study.ask does for a new trial
        with self._storage.optuna.batch():
            trial = optuna.Trial(self._study, claim.trial._trial_id)
            point = points.point(trial, index)
            self._show(claim, point)
        return point

    def record(self, candidate: Candidate, fold: int, result: Fold) -> bool:
        claim, storage = self._held[candidate.index], self._storage.optuna
        candidate.folds[fold] = result
        measured = {key: _to_json(result[key]) for key in MEASURED if key in result}
        step, score = len(candidate.folds), mean_score(candidate, self._metric)
        complete = step == self._n_splits
        try:
            if self._beats.is_lost(claim.lease):
                raise Fenced
            with storage.batch():
                if not isinstance(self._points, Proposals):  # no other proposal waits for it
                    self._show(claim, self._points[candidate.index])
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

    def _show(self, claim: Claim, point: Point) -> None:
        """Let people see the candidate; a retry shows it already."""
        if attributes.PARAMS in claim.trial.user_attrs:
            return
        storage, trial_id = self._storage.optuna, claim.trial._trial_id
        if not isinstance(self._points, Proposals):
            self._distributions.show(storage, trial_id, point)
        params = self._distributions.params(point)
        claim.trial.user_attrs[attributes.PARAMS] = {
            key: _readable(value) for key, value in params.items()
        }
        storage.set_trial_user_attr(
            trial_id, attributes.PARAMS, claim.trial.user_attrs[attributes.PARAMS]
        )

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
            folds = _folds(trial)
            if not folds:
                continue
            if isinstance(self._points, Proposals):
                point = self._points.recall(trial.params, index)
            else:
                point = self._points[index]
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
        self._beats.drop(claim.lease)
        return claim

    def _release_dead(self) -> None:
        """Free what dead processes of this machine held, without waiting for their leases."""
        for worker in {row.worker for row in self._ledger.rows() if row.worker}:
            space, _, rest = worker.rpartition(":")[0].rpartition(":")
            if space == _process_space() and rest.isdigit() and not _is_alive(int(rest)):
                self._ledger.release_worker(worker)


def _folds(trial: FrozenTrial) -> dict[int, Fold]:
    return {
        int(key.removeprefix(attributes.FOLD)): {
            name: _from_json(item) for name, item in value.items()
        }
        for key, value in trial.user_attrs.items()
        if key.startswith(attributes.FOLD)
    }


def _error(candidate: Candidate) -> str:
    """The last line of the first failed fold's traceback."""
    errors = [fold["fit_error"] for fold in candidate.folds.values() if fold.get("fit_error")]
    return str(errors[0]).strip().splitlines()[-1] if errors else "a score is not a number"


def _to_json(value: Any) -> Any:
    """JSON knows no NaN and no infinity: numbers that are not finite become texts."""
    if isinstance(value, RandomState):
        name, keys, *rest = value.get_state(legacy=True)
        return {"RandomState": [name, np.asarray(keys).tolist(), *rest]}
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"RandomState"}:
        state = RandomState()
        state.set_state(tuple(value["RandomState"]))
        return state
    if set(value) == {"float"}:
        return float(value["float"])
    return {key: _from_json(item) for key, item in value.items()}


def _readable(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    finite = not isinstance(plain, float) or math.isfinite(plain)
    return plain if isinstance(plain, bool | int | float | str | None) and finite else repr(plain)


def _process_space() -> str:
    """Where process ids mean the same: the machine, or a container on it."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()}/{space.readlink()}" if space.is_symlink() else platform.node()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
