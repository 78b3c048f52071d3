"""The ledger's tables, beside Optuna's in the same database, and the database's clock.

They are keyed by a uid of our own, which the study carries as a user attribute, and by trial
number: renaming a study in optuna-dashboard gives it and its trials new ids.

All times are seconds since 1970 by the database's clock, so machines with wrong clocks do no harm.
"""

from typing import Any

import sqlalchemy as sa

__all__ = ["Clock", "evaluation", "lineage", "metadata", "study"]

metadata = sa.MetaData()

study = sa.Table(
    "search_study",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("halted", sa.Text),  # why no trial may start; null when they may
    sa.Column("elapsed", sa.Double, nullable=False),  # seconds in which somebody worked
    sa.Column("seen", sa.Double),  # when anybody last reached the database
    sa.Column("awake", sa.Double),  # since when such contacts have followed each other closely
)

lineage = sa.Table(
    "search_lineage",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("lineage", sa.Integer, primary_key=True, autoincrement=False),  # 0 <= n < budget
    sa.Column("done", sa.Integer, nullable=False),  # 1: counts against the budget
    sa.Column("attempt", sa.Integer, nullable=False),  # the lease number: raised by each claim
    sa.Column("losses", sa.Integer, nullable=False),  # attempts whose worker died
    sa.Column("trial", sa.Integer),  # number of the trial of the last attempt
    sa.Column("worker", sa.String(255)),  # who holds the lease; null: nobody
    sa.Column("token", sa.String(32)),  # of the claim, to recognise it when its answer was lost
    sa.Column("since", sa.Double),  # when the last attempt began
    sa.Column("beat", sa.Double),  # the holder's last proof of life
    sa.Column("until", sa.Double),  # the lease lasts at least until then
    sa.Column("ended", sa.Double),  # when the lineage was done
    sa.Index("search_lineage_worker", "uid", "worker"),
)

evaluation = sa.Table(
    "search_evaluation",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),  # 1, 2, ...
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),  # JSON
)


class Clock:
    """The database's clock as an SQL expression; a test may bring another."""

    def now(self, dialect: str) -> sa.ColumnElement[Any]:
        """Seconds since 1970; on Postgres of the statement's moment, not the transaction's."""
        if dialect == "postgresql":
            return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return (sa.func.julianday("now", type_=sa.Double) - 2440587.5) * 86400.0
