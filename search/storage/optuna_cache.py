"""Optuna's cached storage, made to wait for the database, and with fewer and safer statements."""

import copy
import threading
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search.storage.retry import Retry
from search.storage.trial_rows import Writes, check_study, lock_running, read_trials

__all__ = ["OptunaStorage"]

T = TypeVar("T")


class OptunaStorage(_CachedStorage):
    """Optuna's cached RDB storage whose calls wait for the database, and whose writes are safe.

    Safe: on SQLite a write takes the write lock before it reads what it decides upon, so the rule
    that a finished trial never changes holds between processes there too.
    """

    def __init__(
        self,
        backend: RDBStorage,
        retry: Retry,
        writing: Callable[[], Any],
        reopen: Callable[[], "OptunaStorage"],
    ) -> None:
        super().__init__(backend)
        self._retry = retry
        self._writing = writing
        self._reopen = reopen
        self._own: set[int] = set()  # ids of trials that run in this process
        self._pending = threading.local()
        # A storage that is dropped, not closed, closes its idle connections.
        weakref.finalize(self, backend.engine.dispose)

    def __reduce__(self) -> tuple[Callable[[], "OptunaStorage"], tuple[()]]:
        return self._reopen, ()

    @property
    def rdb(self) -> RDBStorage:
        """Optuna's storage beneath the cache."""
        return self._backend

    def ping(self) -> None:
        """Raise when the database does not answer."""
        with self._backend.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    # Trials of our own. While one is RUNNING nobody else writes to it, so what is known of it
    # here is what is stored; a read only asks whether it is RUNNING still.

    def learn(self, study_id: int, trial: FrozenTrial) -> None:
        """Take notice of a RUNNING trial that this process created and alone writes to."""
        with self._lock:
            self._studies.setdefault(study_id, _StudyInfo())
            self._add_trials_to_cache(study_id, [trial])
            self._studies[study_id].unfinished_trial_ids.add(trial._trial_id)
            self._own.add(trial._trial_id)

    def forget(self, trial_id: int) -> None:
        """A trial of our own has ended, by us or by others."""
        with self._lock:
            self._own.discard(trial_id)

    def known_trials(self, study_id: int) -> list[FrozenTrial]:
        """The trials as of the last read of this process, by number; not to be changed."""
        with self._lock:
            trials = self._studies.setdefault(study_id, _StudyInfo()).trials
            return [trials[number] for number in sorted(trials)]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            if trial_id in self._own:
                study_id, number = self._trial_id_to_study_id_and_number[trial_id]
                return copy.deepcopy(self._studies[study_id].trials[number])
        return self._read(lambda: super(OptunaStorage, self).get_trial(trial_id))

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            with self._backend.engine.connect() as connection:
                trials = read_trials(
                    connection,
                    study_id,
                    after=study.last_finished_trial_id,
                    also=study.unfinished_trial_ids,
                    unless_running=self._own,
                )
                if not trials:
                    check_study(connection, study_id)
            self._add_trials_to_cache(study_id, trials)
            for trial in trials:
                if not trial.state.is_finished():
                    study.unfinished_trial_ids.add(trial._trial_id)
                    continue
                study.last_finished_trial_id = max(study.last_finished_trial_id, trial._trial_id)
                study.unfinished_trial_ids.discard(trial._trial_id)
                self._own.discard(trial._trial_id)

    # Writes on running trials: one transaction each, or one for a whole batch.

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect this thread's writes to running trials and commit them together at the end.

        What was collected is not visible to reads before the end; `optuna.Trial` keeps its own
        copy. Nothing is written when the body raises.

        Raises:
            optuna.exceptions.UpdateFinishedTrialError: a trial is finished, nothing is written.
        """
        pending: dict[int, Writes] = {}
        self._pending.writes = pending
        try:
            yield
        finally:
            self._pending.writes = None
        self._flush(pending)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        with self._put(trial_id) as writes:
            writes.params[param_name] = (param_value_internal, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        with self._put(trial_id) as writes:
            writes.steps[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._put(trial_id) as writes:
            writes.user_attrs[key] = copy.deepcopy(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._put(trial_id) as writes:
            writes.system_attrs[key] = copy.deepcopy(value)

    @contextmanager
    def _put(self, trial_id: int) -> Iterator[Writes]:
        pending = getattr(self._pending, "writes", None)
        if pending is not None:
            yield pending.setdefault(trial_id, Writes())
        else:
            writes = Writes()
            yield writes
            self._flush({trial_id: writes})

    def _flush(self, pending: dict[int, Writes]) -> None:
        if not pending:
            return

        def attempt(repeated: bool) -> None:  # noqa: ARG001 - writing it twice does no harm
            with orm.Session(self._backend.engine) as session, session.begin():
                for trial_id in sorted(pending):
                    study_id = lock_running(session, trial_id)
                    pending[trial_id].apply(session, study_id, trial_id, self._seen(study_id))

        try:
            self._write(attempt)
        except optuna.exceptions.UpdateFinishedTrialError:
            for trial_id in pending:
                self.forget(trial_id)
            raise
        with self._lock:
            for trial_id in pending.keys() & self._own:
                study_id, number = self._trial_id_to_study_id_and_number[trial_id]
                trials = self._studies[study_id].trials
                trials[number] = pending[trial_id].applied_to(trials[number])

    def _seen(self, study_id: int) -> dict[str, BaseDistribution]:
        """The distributions known to be in the study, by parameter."""
        with self._lock:
            return self._studies.setdefault(study_id, _StudyInfo()).param_distribution

    def _write(self, attempt: Callable[[bool], T]) -> T:
        def call(repeated: bool) -> T:
            with self._writing():
                return attempt(repeated)

        return self._retry.call(call, self.ping)

    def _read(self, attempt: Callable[[], T]) -> T:
        return self._retry.call(lambda _: attempt(), self.ping)

    # Other writes.

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def attempt(repeated: bool) -> bool:
            try:
                return super(OptunaStorage, self).set_trial_state_values(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                trial = self._backend.get_trial(trial_id)
                ours = list(values) if values is not None else None
                if repeated and trial.state == state and trial.values == ours:
                    return True  # the first attempt was committed, only its answer was lost
                raise

        self.forget(trial_id)
        return self._write(attempt)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self._write(
            lambda repeated: super(OptunaStorage, self).create_new_study(directions, study_name)
        )

    def delete_study(self, study_id: int) -> None:
        def attempt(repeated: bool) -> None:
            try:
                super(OptunaStorage, self).delete_study(study_id)
            except KeyError:
                if not repeated:
                    raise

        self._write(attempt)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._write(lambda repeated: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._write(lambda repeated: self._backend.set_study_system_attr(study_id, key, value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._write(
            lambda repeated: super(OptunaStorage, self).create_new_trial(study_id, template_trial)
        )

    # Reads.

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._read(lambda: super(OptunaStorage, self).get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._read(lambda: super(OptunaStorage, self).get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._read(lambda: super(OptunaStorage, self).get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read(lambda: super(OptunaStorage, self).get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read(lambda: super(OptunaStorage, self).get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._read(lambda: super(OptunaStorage, self).get_all_studies())

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._read(
            lambda: super(OptunaStorage, self).get_trial_id_from_study_id_trial_number(
                study_id, trial_number
            )
        )

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._read(lambda: super(OptunaStorage, self).get_best_trial(study_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        self._read(lambda: self._read_trials_from_remote_storage(study_id))
        trials = self.known_trials(study_id)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials
