"""Optuna's TPE, whose cost per trial hardly grows with the study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import FrozenTrial, TrialState

from search.unsettled import Unsettled

__all__ = ["TPESampler"]

_ABSENT, _COMPLETE, _PRUNED = 0, 1, 2


class TPESampler(optuna.samplers.TPESampler):
    """Optuna's multivariate TPE, with the same proposals for the same seed.

    Optuna sorts and converts every finished trial again for each proposal. A finished trial never
    changes, so this one converts it once, and keeps it in arrays.

    Source: Bergstra, Bardenet, Bengio, Kegl, "Algorithms for hyper-parameter optimization", 2011;
    Falkner, Klein, Hutter, "BOHB", 2018, for the multivariate form.

    Args:
        seed: of all draws.
        group: model each group of parameters that occur together.
        options: of `optuna.samplers.TPESampler`.
    """

    def __init__(self, *, seed: int, group: bool, **options: Any) -> None:
        super().__init__(seed=seed, multivariate=True, group=group, **options)
        self._finished = _Finished()

    def _sample(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        trials = study._get_trials(deepcopy=False, use_cache=True)
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        self._finished.add(trials, sign)
        if self._finished.constrained:  # by another program: the service's own have none
            return super()._sample(study, trial, search_space)
        below, above = self._finished.split(default_gamma(self._finished.count))
        good, bad = (
            self._parzen_estimator_cls(
                self._finished.observations(rows, search_space),
                search_space,
                self._parzen_estimator_parameters,
            )
            for rows in (below, above)
        )
        candidates = good.sample(self._rng.rng, self._n_ei_candidates)
        chosen = self._compare(candidates, self._compute_acquisition_func(candidates, good, bad))
        return {
            name: distribution.to_external_repr(chosen[name])
            for name, distribution in search_space.items()
        }


class _Finished:
    """The finished trials of one study with one objective, as arrays indexed by trial number."""

    def __init__(self) -> None:
        self._unsettled = Unsettled()
        self._state = np.zeros(0, dtype=np.int8)
        # What is sorted by: the value of a complete trial; last step and its value of a pruned one.
        self._step = np.zeros(0)
        self._value = np.zeros(0)
        self._params: dict[str, NDArray[np.float64]] = {}
        self.constrained = False

    def add(self, trials: Sequence[FrozenTrial], sign: float) -> None:
        """Take over those that are new; `sign` makes the lowest value the best."""
        if not trials:
            return
        self._make_room(trials[-1].number + 1)
        for trial in self._unsettled.of(trials):
            useful = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            if useful and self._state[trial.number] == _ABSENT:
                self._put(trial, sign)

    @property
    def count(self) -> int:
        """How many trials are known."""
        return int(np.count_nonzero(self._state))

    def _put(self, trial: FrozenTrial, sign: float) -> None:
        number = trial.number
        self.constrained |= bool(trial.constraints)
        if trial.state is TrialState.COMPLETE:
            assert trial.value is not None
            self._state[number] = _COMPLETE
            self._value[number] = sign * trial.value
        else:
            self._state[number] = _PRUNED
            if trial.intermediate_values:
                step, value = max(trial.intermediate_values.items())
                self._step[number] = -step
                self._value[number] = np.inf if np.isnan(value) else sign * value
            else:
                self._step[number] = 1.0
        for name, value in trial.params.items():
            if name not in self._params:
                self._params[name] = np.full(len(self._state), np.nan)
            self._params[name][number] = trial.distributions[name].to_internal_repr(value)

    def _make_room(self, count: int) -> None:
        more = count - len(self._state)
        if more <= 0:
            return
        more = max(more, len(self._state) // 8)  # so that growing costs little per trial
        self._state = np.pad(self._state, (0, more))
        self._step = np.pad(self._step, (0, more))
        self._value = np.pad(self._value, (0, more))
        for name, column in self._params.items():
            self._params[name] = np.pad(column, (0, more), constant_values=np.nan)

    def split(self, best: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The numbers of the best trials and of all others, each in ascending order.

        Complete trials come before pruned ones; of these, those that ran longer come first.
        """
        complete = np.flatnonzero(self._state == _COMPLETE)
        pruned = np.flatnonzero(self._state == _PRUNED)
        complete = complete[np.argsort(self._value[complete], kind="stable")]
        pruned = pruned[np.lexsort((self._value[pruned], self._step[pruned]))]
        ranked = np.concatenate([complete, pruned])
        return np.sort(ranked[:best]), np.sort(ranked[best:])

    def observations(
        self, numbers: NDArray[np.intp], search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, NDArray[np.float64]]:
        """Optuna's internal values of the trials that have all these parameters."""
        nowhere = np.full(len(self._state), np.nan)
        columns = {name: self._params.get(name, nowhere)[numbers] for name in search_space}
        present = np.all([~np.isnan(column) for column in columns.values()], axis=0)
        return {name: column[present] for name, column in columns.items()}
