"""`StudySearchCV`: scikit-learn's RandomizedSearchCV with samplers, pruning, storage and resume."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from search.errors import SpecError
from search.sampling.make import make_pruner
from search.sklearn.candidates import Candidates, MemoryCandidates
from search.sklearn.distributions import Distributions
from search.sklearn.fingerprint import describe_random_state, fingerprint
from search.sklearn.proposals import Draws, Proposals
from search.sklearn.results import CANDIDATE, format_incomplete
from search.sklearn.scheduling import Fits, Scheduler
from search.sklearn.storage_url import StorageUrl
from search.sklearn.upstream import Evaluate, Format, ScheduledSearchCV, with_scheduler
from search.spec.strategies import PROPOSING, PRUNERS, Options, check_options
from search.spec.values import study_name_of

__all__ = ["StudySearchCV"]

Strategy = str | Mapping[str, Any] | None


class StudySearchCV(ScheduledSearchCV):
    """RandomizedSearchCV that can learn, stop poor candidates early, and go on after a crash.

    Without any of the last five parameters it is scikit-learn's RandomizedSearchCV. See there for
    all the others, for the attributes and for the methods.

    Parameters
    ----------
    estimator : estimator object
        As in RandomizedSearchCV.

    param_distributions : dict or list of dicts
        As in RandomizedSearchCV. To the sampler a list is a choice; `uniform`, `loguniform` and
        `randint` of scipy are ranges; any other scipy distribution is searched over its quantiles;
        an object that has `rvs` and nothing else is drawn from at random.

    n_iter : int, default=10
    scoring : str, callable, list, tuple or dict, default=None
        With several metrics sampler and pruner follow the one that `refit` names, else the first.
    n_jobs : int, default=None
        With a sampler other than "random", a pruner or a storage, as many candidates as there are
        jobs are evaluated at a time, and all of them are told before the next ones are proposed.
    refit : bool, str, or callable, default=True
    cv : int, cross-validation generator or an iterable, default=None
        With a storage, a splitter that shuffles needs a `random_state`.
    verbose : int, default=0
    pre_dispatch : int, or str, default='2*n_jobs'
    random_state : int, RandomState instance or None, default=None
        With a storage, the candidates or the sampler's seed are drawn once, when the study is
        created.
    error_score : 'raise' or numeric, default=np.nan
    return_train_score : bool, default=False

    sampler : str or dict, default="random"
        "random" evaluates the candidates that RandomizedSearchCV draws for the same
        `random_state`. "tpe", "gp", "cma-es", "nsga-ii" and "qmc" propose each candidate knowing
        the earlier results; "grid" takes the points of lists in their order. A dict gives options,
        as in ``{"name": "tpe", "n_startup_trials": 20}``. A finite space of at most `n_iter` points
        is visited once per point, whatever the sampler.

    pruner : str or dict, default=None
        "median", "percentile", "successive-halving", "hyperband", "patience" or "threshold": the
        folds of a candidate are run one after the other, and after each the mean so far decides
        whether it goes on.

    timeout : float, default=None
        Seconds from the start of `fit` after which no further fit of a fold is begun, except for
        the first candidate. The refit comes on top.

    storage : str, default=None
        URL of the database in which to keep every fold, as in ``sqlite:///search.db`` or
        ``postgresql://...``. `fit` called again goes on after the last fold that was kept, and
        several processes or machines that call `fit` share the candidates. Its password is not
        shown when the search, a Pipeline around it or their parameters are printed.

    study_name : str, default=None
        Name of the study in the storage.

    Attributes
    ----------
    cv_results_ : dict of numpy (masked) ndarrays
        As in RandomizedSearchCV. With `pruner`, `timeout` or `storage` there is one more column,
        ``stopped_by``: "pruner", "timeout", "lost" (the processes that evaluated it died again
        and again), or "" for a candidate with all its folds. The folds that a candidate lacks are
        masked, its mean is that of the folds it has, and it shares the last rank. Candidates
        without any fold are left out.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from search.sklearn import StudySearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = StudySearchCV(
    ...     SVC(), {"C": loguniform(1e-2, 1e2)}, n_iter=20, random_state=0, sampler="tpe"
    ... )
    >>> search.fit(X, y).best_score_ > 0.97
    np.True_
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        sampler: str | Mapping[str, Any] = "random",
        pruner: Strategy = None,
        timeout: float | None = None,
        storage: str | None = None,
        study_name: str | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.sampler = sampler
        self.pruner = pruner
        self.timeout = timeout
        self.storage = storage
        self.study_name = study_name

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter by name; the storage's password is not shown when they are printed.

        Parameters
        ----------
        deep : bool, default=True
            Also those of the estimator, as ``estimator__NAME``.

        Returns
        -------
        params : dict
        """
        params: dict[str, Any] = super().get_params(deep)
        if type(self.storage) is str:
            params["storage"] = StorageUrl(self.storage)
        return params

    def evaluation(self, evaluate_candidates: Evaluate) -> Evaluate:
        """scikit-learn's function, for the candidates that our sampler proposes."""
        sampler, _ = _named("sampler", PROPOSING, self.sampler)
        pruner, _ = _named("pruner", PRUNERS, self.pruner)
        if (self.storage is None) != (self.study_name is None):
            storage = self.storage if self.storage is None else StorageUrl(self.storage)
            raise SpecError(
                f"need storage and study_name together, got storage={storage!r}, "
                f"study_name={self.study_name!r}; give both or none"
            )
        if self.study_name is not None:
            study_name_of(self.study_name, "StudySearchCV(study_name=...)")
        if self.timeout is not None and not self.timeout > 0:
            raise SpecError(f"timeout must be a number of seconds > 0, got {self.timeout!r}")
        needs_study = pruner != "none" or self.timeout is not None or self.storage is not None

        def evaluate(drawn: Sequence[Any], **more: Any) -> dict[str, Any]:
            """Instead of what ParameterSampler drew, evaluate what our sampler proposes."""
            params: list[dict[str, Any]] = [{} for _ in range(len(drawn))]
            stopped_by = [""] * len(params)
            scheduler = Scheduler(
                partial(self._open_candidates, n_candidates=len(params)),
                params,
                stopped_by,
                n_splits=self.n_splits_,
                n_jobs=self.n_jobs,
                pre_dispatch=self.pre_dispatch,
                prunes=pruner != "none",
                timeout=self.timeout,
            )
            if needs_study:
                more["more_results"] = {"stopped_by": stopped_by}
            return with_scheduler(evaluate_candidates, scheduler)(params, **more)

        return evaluate_candidates if sampler == "random" and not needs_study else evaluate

    def _open_candidates(self, fits: Fits, n_candidates: int) -> Candidates:
        distributions = Distributions(self.param_distributions)
        pruner = make_pruner(*_named("pruner", PRUNERS, self.pruner))
        metric = self.refit if isinstance(self.refit, str) else None
        if self.storage is None or self.study_name is None:
            points = self._points(distributions, n_candidates, self.random_state)
            return MemoryCandidates(
                distributions, points, n_candidates, self.n_splits_, pruner, metric
            )
        from search.sklearn.stored import StoredCandidates
        from search.sklearn.stored_study import StoredStudy

        search = StoredStudy(
            self.storage,
            self.study_name,
            fingerprint=self._fingerprint(fits),
            random_state=self._first_random_state(),
            n_candidates=n_candidates,
            metric=metric,
        )
        points = self._points(distributions, n_candidates, search.random_state)
        return StoredCandidates(search, distributions, points, self.n_splits_, pruner, metric)

    def _points(
        self, distributions: Distributions, n_candidates: int, random_state: Any
    ) -> Draws | Proposals:
        name, options = _named("sampler", PROPOSING, self.sampler)
        if name == "random" or distributions.size <= self.n_iter:
            return Draws(lambda: distributions.draw(int(self.n_iter), random_state))
        if name == "grid":
            return Draws(lambda: distributions.grid(n_candidates))
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return Proposals(distributions, name, options, seed)

    def _first_random_state(self) -> Any:
        """What a new study keeps, so that whoever goes on with it draws the same candidates."""
        if self.random_state is None:
            return int(check_random_state(None).randint(2**31 - 1))
        return self.random_state

    def _fingerprint(self, fits: Fits) -> dict[str, list[str]]:
        """Everything that a fold's result depends upon."""
        first = fits.of(0)
        _, (_, X, y), kwargs = first[0]
        return fingerprint(
            arrays={
                "data": (X, y),
                "splits": [(np.asarray(k["train"]), np.asarray(k["test"])) for _, _, k in first],
                "fit parameters": (kwargs["fit_params"], kwargs["score_params"]),
            },
            values={
                "estimator": clone(self.estimator),  # fitted or not
                "scoring": self.scoring,
                "n_iter": self.n_iter,
                "sampler": self.sampler,
                "pruner": self.pruner,
                "random_state": describe_random_state(self.random_state),
                "error_score": self.error_score,
                "return_train_score": self.return_train_score,
                "refit metric": self.refit if isinstance(self.refit, str) else None,
            },
            param_distributions=self.param_distributions,
        )

    def table(
        self,
        format_results: Format,
        candidate_params: Any,
        n_splits: int,
        out: Any,
        more_results: Any,
    ) -> dict[str, Any]:
        """`cv_results_`, of which folds may be missing."""
        if CANDIDATE not in out[0]:
            return format_results(candidate_params, n_splits, out, more_results)
        return format_incomplete(format_results, candidate_params, n_splits, out, more_results)


def _named(kind: str, known: Options, strategy: Strategy) -> tuple[str, dict[str, Any]]:
    """Name and options of a sampler or pruner; None is the pruner "none".

    Raises:
        SpecError: the name or an option is unknown.
    """
    options = dict(strategy) if isinstance(strategy, Mapping) else {"name": strategy or "none"}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise SpecError(
            f'{kind} needs a name, as in {{"name": "{list(known)[1]}"}}, got {strategy!r}'
        )
    check_options(kind, known, name, options)
    return name, options
