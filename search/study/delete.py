"""Deletes a study: Optuna's rows and the ledger's in one transaction."""

import sqlalchemy as sa
from sqlalchemy import orm

from search.errors import SearchError
from search.ledger import Ledger
from search.storage import schema
from search.storage.study_rows import delete_study as delete_rows
from search.storage.study_rows import study_id_of

__all__ = ["delete_study", "refuse_while_alive"]

_L = schema.lineage.c


def refuse_while_alive(ledger: Ledger, name: str) -> None:
    """Raise `SearchError` while a worker holds a lease that has not run out."""
    ledger.storage.read(lambda session: _refuse_while_alive(session, ledger, name))


def _refuse_while_alive(session: orm.Session, ledger: Ledger, name: str) -> None:
    # Locked: nobody leases one of the others before the rows are gone.
    found = session.execute(
        sa.select(_L.worker, (_L.until - ledger.scope.now).label("left"))
        .where(ledger.scope.mine)
        .order_by(_L.lineage)
        .with_for_update()
    ).all()
    alive = {row.worker: row.left for row in found if row.worker is not None and row.left > 0}
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
        _refuse_while_alive(session, ledger, name)
        for table in schema.metadata.sorted_tables:
            if "uid" in table.c:
                session.execute(table.delete().where(table.c.uid == ledger.uid))
        delete_rows(session, ledger.study_id)
        return True

    def settled(session: orm.Session) -> bool | None:
        return True if study_id_of(session, ledger.uid) is None else None

    ledger.storage.write(work, settled=settled)
