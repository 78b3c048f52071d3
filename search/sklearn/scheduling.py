"""Which folds of which candidates run next, on whatever joblib runs them.

scikit-learn's `BaseSearchCV.fit` makes one list of fits, candidate after candidate, and hands it to
joblib. A `Scheduler` stands between the two. It works in rounds: claim as many
candidates as there are jobs, run their folds (with a pruner: the next fold of each), record each
result as it comes, then decide. A round's fits divide evenly among the jobs, every result is told
before the next candidate is proposed, and with a seed the search is the same each time it is run.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import joblib
from sklearn.utils.parallel import Parallel, delayed

from search.errors import NoResult
from search.sklearn.candidates import Candidate, Candidates, Fold, with_float_scores
from search.sklearn.results import CANDIDATE, FOLD
from search.sklearn.upstream import Task, plain_function

__all__ = ["Fits", "Scheduler"]

POLL_S = 0.5  # seconds between looks at candidates that other processes are evaluating


class Fits:
    """scikit-learn's list of fits, by candidate. It is lazy, as each fit holds an estimator."""

    def __init__(self, tasks: Iterable[Task], n_splits: int) -> None:
        self._tasks, self._n_splits = iter(tasks), n_splits
        self._known: list[list[Task]] = []

    def of(self, candidate: int) -> list[Task]:
        """The fits of one candidate, one per fold."""
        while len(self._known) <= candidate:
            self._known.append(list(itertools.islice(self._tasks, self._n_splits)))
        return self._known[candidate]

    def forget(self, candidate: int) -> None:
        """Free the fits of a candidate that has ended."""
        self._known[candidate] = []


class Scheduler:
    """Called with scikit-learn's list of fits; returns the results of those that were run.

    Args:
        open_candidates: called once with the fits, which hold the data and the splits.
        params: one dict per candidate, the very ones that the fits refer to; filled in here.
        stopped_by: one text per candidate; filled in here.
        prunes: whether a candidate may be given up between two folds.
        timeout: seconds from now after which no fit starts; None for no limit.
    """

    def __init__(
        self,
        open_candidates: Callable[[Fits], Candidates],
        params: Sequence[dict[str, Any]],
        stopped_by: list[str],
        *,
        n_splits: int,
        n_jobs: int | None,
        pre_dispatch: int | str,
        prunes: bool,
        timeout: float | None,
    ) -> None:
        self._open_candidates, self._params, self._stopped_by = open_candidates, params, stopped_by
        self._n_splits, self._prunes = n_splits, prunes
        self._n_jobs, self._pre_dispatch = n_jobs, pre_dispatch
        self._end = None if timeout is None else time.monotonic() + timeout

    def __call__(self, tasks: Iterable[Task]) -> list[Fold]:
        """Run the search.

        The first candidate that is begun is exempt from the timeout when none has ended before it:
        a search without any result would be of no use.

        Raises:
            NoResult: no fold was run, as the timeout was over while other processes had all
                candidates.
        """
        if self._n_splits == 0 or not self._params:
            return []
        fits = Fits(tasks, self._n_splits)
        candidates = self._open_candidates(fits)
        live: list[Candidate] = []
        try:
            with _parallel(self._n_jobs, self._pre_dispatch) as parallel:
                self._search(candidates, fits, parallel, live)
            return self._collect(candidates)
        finally:
            for candidate in live:
                candidates.release(candidate)
            candidates.close()

    def _search(
        self, candidates: Candidates, fits: Fits, parallel: Parallel, live: list[Candidate]
    ) -> None:
        width = joblib.effective_n_jobs(self._n_jobs)
        ended = any(self._is_complete(c) for c in candidates.seen())
        while True:
            while len(live) < width and not (self._expired() and (ended or live)):
                claimed = candidates.claim()
                if claimed is None:
                    break
                self._params[claimed.index].update(claimed.params)
                live.append(claimed)
            if not live:
                if self._expired() or not candidates.pending():
                    return
                time.sleep(POLL_S)
                continue
            for candidate, fold, result in self._run(tuple(live), fits, parallel, exempt=not ended):
                if candidate not in live:
                    continue
                ours = candidates.record(candidate, fold, result)
                if not ours or self._is_complete(candidate):
                    ended = ended or ours
                    live.remove(candidate)
                    if ours:  # else it was taken from us, and may come back
                        fits.forget(candidate.index)
            for candidate in list(live):
                if self._prunes and candidate.folds and candidates.should_prune(candidate):
                    ended = True
                    candidate.stopped_by = "pruner"
                    candidates.prune(candidate)
                elif ended and self._expired():
                    candidate.stopped_by = "timeout"
                    candidates.release(candidate)
                else:
                    continue
                live.remove(candidate)
                fits.forget(candidate.index)

    def _run(
        self, live: Sequence[Candidate], fits: Fits, parallel: Parallel, *, exempt: bool
    ) -> Iterator[tuple[Candidate, int, Fold]]:
        """One round: yield its results as they come, in any order.

        Args:
            exempt: whether the first candidate is run past the timeout.
        """
        jobs = []
        # Wall-clock time, as fits may run on other machines; the next round follows a clock that
        # was set.
        end = None if self._end is None else time.time() + self._end - time.monotonic()
        for at, candidate in enumerate(live):
            deadline = None if exempt and at == 0 else end
            for fold in self._missing(candidate)[: 1 if self._prunes else None]:
                task = fits.of(candidate.index)[fold]
                jobs.append(delayed(_fit)(at, fold, deadline, plain_function(task), *task[1:]))
        for at, fold, result in parallel(jobs):
            if result is not None:
                yield live[at], fold, with_float_scores(result)

    def _collect(self, candidates: Candidates) -> list[Fold]:
        """Every fold of every candidate, whoever ran it, in scikit-learn's order."""
        out = []
        seen = sorted(candidates.seen(), key=lambda c: c.index)
        if not seen:
            raise NoResult(
                f"no candidate has all its {self._n_splits} folds yet: 0 were begun, and the "
                "timeout was over before one was through; call fit again, or give a longer timeout"
            )
        for candidate in seen:
            self._params[candidate.index].clear()  # another process may have drawn another point
            self._params[candidate.index].update(candidate.params)
            if not self._is_complete(candidate):
                self._stopped_by[candidate.index] = candidate.stopped_by or "timeout"
            for fold, result in sorted(candidate.folds.items()):
                out.append({**result, CANDIDATE: candidate.index, FOLD: fold})
        return out

    def _missing(self, candidate: Candidate) -> list[int]:
        return [fold for fold in range(self._n_splits) if fold not in candidate.folds]

    def _is_complete(self, candidate: Candidate) -> bool:
        return len(candidate.folds) == self._n_splits

    def _expired(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


def _fit(
    at: int,
    fold: int,
    deadline: float | None,
    function: Callable[..., Fold],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> tuple[int, int, Fold | None]:
    """One fit, where joblib runs it; None instead of a result when its time has passed."""
    if deadline is not None and time.time() >= deadline:
        return at, fold, None
    return at, fold, function(*args, **kwargs)


def _parallel(n_jobs: int | None, pre_dispatch: int | str) -> Parallel:
    """joblib's Parallel, giving results one by one where its back end can."""
    try:
        return Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch, return_as="generator_unordered")
    except ValueError:  # joblib's way to say that the back end cannot
        return Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch)
