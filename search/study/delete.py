"""Deletes a study: Optuna's rows and the ledger's in one transaction, then its files."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm

from search import attributes
from search.errors import SearchError, StorageError, StudyNotFound
from search.ledger import Ledger
from search.ledger.measurements import measurements
from search.storage import Storage, schema
from search.storage.checkpoint import CheckpointStore
from search.storage.study_rows import delete_study as delete_rows
from search.storage.study_rows import study_id_of, study_names
from search.study.confirmation.find import confirmations

__all__ = ["Deleted", "Deletion", "delete_study"]

_L = schema.lineage.c


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """How much was deleted with the study of a name."""

    name: str
    trials: int
    checkpoints: int
    artifacts: int
    measurements: int  # sealed ones, whose record is gone


class Deletion:
    """A study that is to be deleted, and the studies that confirm it.

    Raises:
        SearchError: there is no study of that name, or workers are at work on one of them.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        study = Ledger.open(storage, name)
        self.confirming = [one.name for one in confirmations(storage, study.uid)]
        # The study last: one without its confirmation is whole.
        self._ledgers = {one: Ledger.open(storage, one) for one in self.confirming} | {name: study}
        for one, ledger in self._ledgers.items():
            storage.read(partial(_refuse_while_alive, ledger, one))
        self.trials = len(storage.optuna.get_all_trials(study.study_id, deepcopy=False))
        self.measurements = len(measurements(storage, study.uid))

    def carry_out(self) -> list[Deleted]:
        """Delete rows, checkpoints and artifacts of each study; the study itself comes last.

        Raises:
            SearchError: workers began meanwhile.
            StudyNotFound: somebody else deleted it meanwhile.
            StorageError: a file could not be deleted; the rows are gone.
        """
        return [self._delete(ledger, name) for name, ledger in self._ledgers.items()]

    def _delete(self, ledger: Ledger, name: str) -> Deleted:
        from search.dashboard.artifact_files import artifact_files

        optuna = self._storage.optuna
        try:
            trials = optuna.get_all_trials(ledger.study_id, deepcopy=False)
        except KeyError:  # somebody else was first
            storage = self._storage
            raise StudyNotFound(name, storage.url, storage.read(study_names)) from None
        files = artifact_files(optuna.get_study_system_attrs(ledger.study_id), trials)
        place = ledger.attrs.get(attributes.CHECKPOINTS)  # StudySearchCV's study may have none
        measured = len(measurements(self._storage, ledger.uid))
        delete_study(ledger, name)
        checkpoints = 0 if place is None else CheckpointStore(place, ledger.uid).delete_all()
        _unlink(files)
        return Deleted(
            name=name,
            trials=len(trials),
            checkpoints=checkpoints,
            artifacts=len(files),
            measurements=measured,
        )


def _unlink(files: list[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"the artifact {file} could not be deleted ({error.strerror}); delete it by hand"
            ) from error


def _refuse_while_alive(ledger: Ledger, name: str, session: orm.Session) -> None:
    # Locked: nobody leases one of the others before the rows are gone.
    scope = ledger.scope
    found = session.execute(
        sa.select(_L.worker, (_L.until - scope.now).label("left"), scope.ahead.label("ahead"))
        .where(scope.mine)
        .order_by(_L.lineage)
        .with_for_update()
    ).all()
    alive = {
        row.worker: row.left
        for row in found
        if row.worker is not None and row.left > 0 and not row.ahead
    }
    if alive:
        raise SearchError(
            f"a study is deleted while nobody works on it, got {name!r} with {len(alive)} at work "
            f"({', '.join(sorted(alive))}); stop them, or if they have died wait "
            f"{max(alive.values()):.0f} s"
        )


def delete_study(ledger: Ledger, name: str) -> None:
    """Delete the rows of a study, whole or not at all; no file is touched.

    A worker that was thought to be dead finds that the study is gone, and leaves.

    Raises:
        SearchError: workers are at work.
    """

    def work(session: orm.Session) -> bool:
        _refuse_while_alive(ledger, name, session)
        for table in schema.metadata.sorted_tables:
            if "uid" in table.c:
                session.execute(table.delete().where(table.c.uid == ledger.uid))
        delete_rows(session, ledger.study_id)
        return True

    def settled(session: orm.Session) -> bool | None:
        return True if study_id_of(session, ledger.uid) is None else None

    ledger.storage.write(work, settled=settled)
