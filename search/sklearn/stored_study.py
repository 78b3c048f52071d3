"""The study that holds a search: created by the first process, opened and checked by the others."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection

from search import attributes
from search.errors import StorageError
from search.ledger import Ledger
from search.sklearn.encoding import decode, encode
from search.sklearn.fingerprint import check_same
from search.storage import Storage, open_storage

__all__ = ["StoredStudy", "process_space", "release_dead"]


class StoredStudy:
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
            self.random_state = decode(attrs[attributes.RANDOM_STATE])
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
                    attributes.RANDOM_STATE: encode(random_state),
                },
                system_attrs={attributes.METRIC_NAMES: [f"mean_test_{metric or 'score'}"]},
            )
        except optuna.exceptions.DuplicatedStudyError:
            return Ledger.open(self.storage, self.name)


def release_dead(ledger: Ledger) -> None:
    """Free what dead processes of this machine held, without waiting for their leases."""
    for worker in {row.worker for row in ledger.rows() if row.worker}:
        space, _, rest = worker.rpartition(":")[0].rpartition(":")
        if space == process_space() and rest.isdigit() and not _is_alive(int(rest)):
            ledger.release_worker(worker)


def process_space() -> str:
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
