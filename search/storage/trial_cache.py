"""What this process knows of the trials of each study, so that it reads a finished trial once.

A finished trial never changes, and a trial that runs in this process is written by nobody else. So
a read of a study asks only for its new trials and for those of other processes that still run.
"""

import copy
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search import attributes
from search.storage.trial_rows import Writes

__all__ = ["Gap", "TrialCache"]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What a read of a study has to ask for; the fields are arguments of `read_trials`.

    Attributes:
        after: the id of the last finished trial that is known.
        also: ids up to that one that were not finished.
        unless_running: ids of trials that run in this process.
    """

    after: int
    also: Collection[int]
    unless_running: Collection[int]


@dataclass
class _Study:
    name: str | None = None
    directions: list[StudyDirection] | None = None
    trials: dict[int, FrozenTrial] = field(default_factory=dict)  # by number
    unfinished: set[int] = field(default_factory=set)  # ids
    last_finished: int = -1  # id
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)  # by parameter


class TrialCache:
    """Trials by study and number. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: dict[int, _Study] = {}
        self._places: dict[int, tuple[int, int]] = {}  # trial id -> study id, number
        self._own: set[int] = set()  # ids of trials that run in this process
        self._leases: dict[int, list[int] | None] = {}  # of trials that ran in this process, by id

    def gap(self, study_id: int) -> Gap:
        """What is not known of a study."""
        with self._lock:
            study = self._study(study_id)
            return Gap(
                after=study.last_finished,
                also=frozenset(study.unfinished),
                unless_running=frozenset(self._own),
            )

    def fill(self, study_id: int, trials: Iterable[FrozenTrial]) -> None:
        """Take in what a read for a gap returned."""
        with self._lock:
            study = self._study(study_id)
            for trial in trials:
                finished = trial.state.is_finished()
                if not finished and trial._trial_id in self._own:
                    continue  # learnt since; what is known here is newer than what was read
                self._put(study_id, trial)
                if finished:
                    study.last_finished = max(study.last_finished, trial._trial_id)
                    study.unfinished.discard(trial._trial_id)
                    self._own.discard(trial._trial_id)
                else:
                    study.unfinished.add(trial._trial_id)

    def learn(self, study_id: int, trial: FrozenTrial) -> None:
        """Register a RUNNING trial that this process alone writes to, until `forget`."""
        with self._lock:
            self._put(study_id, trial)
            self._study(study_id).unfinished.add(trial._trial_id)
            self._own.add(trial._trial_id)
            self._leases[trial._trial_id] = trial.system_attrs.get(attributes.LEASE)

    def lease(self, trial_id: int) -> list[int] | None:
        """The lease under which this process last had a trial; None without any."""
        with self._lock:
            return self._leases.get(trial_id)

    def forget(self, trial_id: int) -> None:
        """Register that a trial of this process has ended, or is written by others too."""
        with self._lock:
            self._own.discard(trial_id)

    def apply(self, trial_id: int, writes: Writes) -> None:
        """Register what was written to a trial; does nothing to one of another process."""
        with self._lock:
            if trial_id in self._own:
                study_id, number = self._places[trial_id]
                trials = self._studies[study_id].trials
                trials[number] = writes.applied_to(trials[number])

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """The trials as of the last read, by number; not to be changed."""
        with self._lock:
            trials = self._study(study_id).trials
            return [trials[number] for number in sorted(trials)]

    def trial(self, trial_id: int) -> FrozenTrial | None:
        """A trial that is known to be as it is stored; None for any other."""
        with self._lock:
            if trial_id not in self._places:
                return None
            study_id, number = self._places[trial_id]
            trial = self._studies[study_id].trials[number]
            if trial_id in self._own:
                return copy.deepcopy(trial)
            return trial if trial.state.is_finished() else None

    def trial_id(self, study_id: int, number: int) -> int | None:
        """The id of a trial; None when it is not known."""
        with self._lock:
            trial = self._study(study_id).trials.get(number)
            return None if trial is None else trial._trial_id

    def distributions(self, study_id: int) -> dict[str, BaseDistribution]:
        """The distributions known to be in the study, by parameter; whoever finds one adds it."""
        with self._lock:
            return self._study(study_id).distributions

    def name(self, study_id: int, name: str | None = None) -> str | None:
        """The name of a study, which never changes; a name that is given is kept."""
        with self._lock:
            study = self._study(study_id)
            study.name = name or study.name
            return study.name

    def directions(
        self, study_id: int, directions: list[StudyDirection] | None = None
    ) -> list[StudyDirection] | None:
        """The directions of a study, which never change; directions that are given are kept."""
        with self._lock:
            study = self._study(study_id)
            study.directions = directions or study.directions
            return study.directions

    def drop(self, study_id: int) -> None:
        """Forget a study that was deleted."""
        with self._lock:
            study = self._studies.pop(study_id, _Study())
            for trial in study.trials.values():
                self._places.pop(trial._trial_id, None)
                self._own.discard(trial._trial_id)

    def _put(self, study_id: int, trial: FrozenTrial) -> None:
        self._study(study_id).trials[trial.number] = trial
        self._places[trial._trial_id] = (study_id, trial.number)

    def _study(self, study_id: int) -> _Study:
        return self._studies.setdefault(study_id, _Study())
