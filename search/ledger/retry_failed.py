"""Gives the failed lineages of a study another attempt."""

from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import orm

from search.ledger.ledger import Ledger
from search.storage import schema
from search.storage.optuna_tables import trials

__all__ = ["retry_failed"]

_L = schema.lineage.c
_T = trials.c


def retry_failed(ledger: Ledger) -> int:
    """Free the lineages whose last trial FAILed: by an error, out of memory, or lost for good.

    The study is then unfinished again. Each gets a new trial with the same parameters; the failed
    trials stay as they are.

    Returns:
        How many lineages.
    """

    def work(session: orm.Session) -> int:
        failed = sa.select(_T.number).where(
            _T.study_id == ledger.study_id, _T.state == TrialState.FAIL
        )
        done = [_L.uid == ledger.uid, _L.done == 1, _L.trial.in_(failed)]
        result: Any = session.execute(
            schema.lineage.update().where(*done).values(done=0, ended=None)
        )
        return int(result.rowcount)

    return ledger.storage.write(work)
