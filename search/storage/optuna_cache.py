"""The storage that Optuna is given: it waits for the database, and caches what cannot change."""

import copy
import threading
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import orm

from search.storage.optuna_tables import FrozenStudy
from search.storage.retry import Retry
from search.storage.trial_cache import TrialCache
from search.storage.trial_rows import Writes, check_study, lock_running, read_trials

__all__ = ["OptunaStorage"]

T = TypeVar("T")


class OptunaStorage(BaseStorage):
    """Optuna's RDB storage whose calls wait for the database, behind a cache of trials.

    Its writes are safe between processes: on SQLite too, a write takes the write lock before it
    reads what it decides upon, so a finished trial never changes.

    Args:
        rdb: Optuna's storage.
        writing: makes a context in which transactions write.
        reopen: opens the same storage in another process.
        beside: another storage of the same database, whose cache and batches this one shares.
    """

    def __init__(
        self,
        rdb: RDBStorage,
        retry: Retry,
        writing: Callable[[], Any],
        reopen: Callable[[], "OptunaStorage"],
        beside: "OptunaStorage | None" = None,
    ) -> None:
        self.rdb = rdb
        self._retry = retry
        self._writing = writing
        self._reopen = reopen
        self._cache: TrialCache = beside._cache if beside else TrialCache()
        # One read fills a gap of the cache for all threads that wait for it.
        self._reading: threading.Lock = beside._reading if beside else threading.Lock()
        self._pending: threading.local = beside._pending if beside else threading.local()
        # A storage that is dropped, not closed, closes its idle connections.
        weakref.finalize(self, rdb.engine.dispose)

    def __reduce__(self) -> tuple[Callable[[], "OptunaStorage"], tuple[()]]:
        return self._reopen, ()

    def ping(self) -> None:
        """Raise when the database does not answer over a new connection."""
        # One whose file or socket was closed beneath it would fail for ever.
        self.rdb.engine.dispose()
        with self.rdb.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    def remove_session(self) -> None:
        self.rdb.remove_session()

    def _write(self, attempt: Callable[[bool], T]) -> T:
        def call(repeated: bool) -> T:
            with self._writing():
                return attempt(repeated)

        return self._retry.call(call, self.ping, writes=True)

    def _read(self, attempt: Callable[[], T]) -> T:
        return self._retry.call(lambda _: attempt(), self.ping)

    # Trials of this process.

    def learn(self, study_id: int, trial: FrozenTrial) -> None:
        """Register a RUNNING trial that this process has the lease of, and alone writes to.

        Until `forget`, reads of it are served from the cache. Writes of this process are refused
        once the trial goes on under another lease.
        """
        self._cache.learn(study_id, trial)

    def forget(self, trial_id: int) -> None:
        """Register that a trial of this process has ended or was released, by us or by others."""
        self._cache.forget(trial_id)

    def known_trials(self, study_id: int) -> list[FrozenTrial]:
        """The trials as of the last read of this process, by number; not to be changed."""
        return self._cache.trials(study_id)

    # Writes to running trials: one transaction each, or one for a whole batch.

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
            with orm.Session(self.rdb.engine) as session, session.begin():
                for trial_id in sorted(pending):
                    lease = self._cache.lease(trial_id)
                    study_id = lock_running(session, trial_id, lease=lease)
                    # The spec gives a leased trial its distributions, and may be amended.
                    seen = None if lease else self._cache.distributions(study_id)
                    pending[trial_id].apply(session, study_id, trial_id, seen)

        try:
            self._write(attempt)
        except optuna.exceptions.UpdateFinishedTrialError:
            for trial_id in pending:
                self.forget(trial_id)
            raise
        for trial_id, writes in pending.items():
            self._cache.apply(trial_id, writes)

    # Other writes.

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def attempt(repeated: bool) -> bool:
            try:
                return self.rdb.set_trial_state_values(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                trial = self.rdb.get_trial(trial_id)
                ours = list(values) if values is not None else None
                if repeated and trial.state == state and trial.values == ours:
                    return True  # the first attempt was committed, only its answer was lost
                raise

        self.forget(trial_id)
        return self._write(attempt)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self._write(lambda _: self.rdb.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        def attempt(repeated: bool) -> None:
            try:
                self.rdb.delete_study(study_id)
            except KeyError:
                if not repeated:
                    raise

        self._cache.drop(study_id)
        self._write(attempt)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._write(lambda _: self.rdb.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._write(lambda _: self.rdb.set_study_system_attr(study_id, key, value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._write(lambda _: self.rdb.create_new_trial(study_id, template_trial))

    # Reads.

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._read(lambda: self.rdb.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        if (known := self._cache.name(study_id)) is not None:
            return known
        name = self._read(lambda: self.rdb.get_study_name_from_id(study_id))
        self._cache.name(study_id, name)
        return name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        if (known := self._cache.directions(study_id)) is not None:
            return known
        directions = self._read(lambda: self.rdb.get_study_directions(study_id))
        self._cache.directions(study_id, directions)
        return directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read(lambda: self.rdb.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._read(lambda: self.rdb.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._read(self.rdb.get_all_studies)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        known = self._cache.trial_id(study_id, trial_number)
        if known is not None:
            return known
        return self._read(
            lambda: self.rdb.get_trial_id_from_study_id_trial_number(study_id, trial_number)
        )

    def get_trial(self, trial_id: int) -> FrozenTrial:
        known = self._cache.trial(trial_id)
        return known or self._read(lambda: self.rdb.get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        self._read(lambda: self._refresh(study_id))
        trials = self.known_trials(study_id)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _refresh(self, study_id: int) -> None:
        with self._reading:
            gap = self._cache.gap(study_id)
            with self.rdb.engine.connect() as connection:
                trials = read_trials(
                    connection,
                    study_id,
                    after=gap.after,
                    also=gap.also,
                    unless_running=gap.unless_running,
                )
                if not trials:
                    check_study(connection, study_id)
            self._cache.fill(study_id, trials)
