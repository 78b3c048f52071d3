"""The ledger's tables, beside Optuna's in the same database, and the database's clock.

A uid of our own keys them, which the study carries as a user attribute, together with trial
numbers: when optuna-dashboard renames a study, the study and its trials get new ids.

All times are seconds since 1970 (UTC) by the database's clock, so a machine whose clock is wrong
does no harm. `migrations` holds the version of these tables; a change here needs a step there.
"""

from typing import Any

import sqlalchemy as sa

__all__ = [
    "Clock",
    "amendment",
    "attempt",
    "evaluation",
    "free",
    "lineage",
    "metadata",
    "study",
    "version",
]

metadata = sa.MetaData()

version = sa.Table(
    "search_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),  # one row
)

study = sa.Table(
    "search_study",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("halted", sa.Text),  # why no trial may start; null when they may
    sa.Column("elapsed", sa.Double, nullable=False),  # seconds in which somebody worked
    sa.Column("seen", sa.Double),  # when anybody last reached the database
    sa.Column("awake", sa.Double),  # since when such contacts have followed each other closely
    # how often it was decided which trial begins or goes on
    sa.Column("decisions", sa.Integer, nullable=False, server_default="0"),
    sa.Column("held_since", sa.Double),  # since when somebody has paused it; null: nobody has
    sa.Column("ended_by", sa.Text),  # the stop rule that ended it, JSON; null: none has
)

lineage = sa.Table(
    "search_lineage",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("lineage", sa.Integer, primary_key=True, autoincrement=False),  # 0 <= n < budget
    sa.Column("done", sa.Integer, nullable=False),  # 1: counts against the budget
    sa.Column("attempt", sa.Integer, nullable=False),  # the lease number: raised by each claim
    sa.Column("lost_attempts", sa.Integer, nullable=False),  # that count towards max_retries
    sa.Column("trial", sa.Integer),  # number of the trial of the last attempt
    sa.Column("worker", sa.String(255)),  # who holds the lease; null: nobody
    sa.Column("token", sa.String(32)),  # of the claim, to recognise it when its answer was lost
    sa.Column("since", sa.Double),  # when the last attempt began
    sa.Column("heartbeat", sa.Double),  # the holder's last proof of life
    sa.Column("until", sa.Double),  # the lease lasts at least until then
    sa.Column("ended", sa.Double),  # when the lineage was done
    sa.Column("paused", sa.Integer, nullable=False, server_default="0"),  # 1: waits for a decision
    sa.Column("pause_at", sa.Integer),  # step at which it pauses; null: it runs to its end
    # of those that never began: 0 before 1, then by index
    sa.Column("turn", sa.Integer, nullable=False, server_default="1"),
)
# Of the rows of a large budget few are leased, and one is claimed next: each look at these finds
# them by an index of their own.
_leased = lineage.c.worker.is_not(None)
sa.Index(
    "search_lineage_leased",
    lineage.c.uid,
    lineage.c.lineage,
    postgresql_where=_leased,
    sqlite_where=_leased,
)
#: The condition of a free row, with the number in the statement itself: the databases use a
#: partial index only for a condition that they can compare with the index's own.
free = sa.and_(
    lineage.c.done == sa.literal_column("0"),
    lineage.c.worker.is_(None),
    lineage.c.paused == sa.literal_column("0"),
)
sa.Index(
    "search_lineage_free",
    lineage.c.uid,
    lineage.c.trial.is_(None),
    lineage.c.turn,
    lineage.c.lineage,
    postgresql_where=free,
    sqlite_where=free,
)

attempt = sa.Table(
    "search_attempt",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("lineage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),  # the lease number
    sa.Column("trial", sa.Integer, nullable=False),  # number of the trial
    sa.Column("worker", sa.String(255)),  # null: not recorded by an older version
    sa.Column("began", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),  # null: it runs
    sa.Column("how", sa.String(32)),  # it ended: see `records.Attempt`; null: it runs
)

amendment = sa.Table(
    "search_amendment",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # 1, 2, ...
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),  # the whole study file since then
    sa.Column("text", sa.Text, nullable=False),  # of it, what the amendment changed
    sa.Column("changes", sa.Text, nullable=False),  # key -> [before, since], JSON
    sa.Column("hash", sa.String(64), nullable=False),  # of the text and of the hash before
    sa.Column("trials", sa.Integer, nullable=False),  # lineages since then
    sa.Column("given", sa.Text),  # parameters of the one lineage that it adds, JSON; null: none
    sa.Column("token", sa.String(32), nullable=False),  # of the write
)

evaluation = sa.Table(
    "search_evaluation",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),  # 1, 2, ...
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),  # JSON
    sa.Column("token", sa.String(32)),  # of the write; null: made by an older version
)


class Clock:
    """The database's clock as an SQL expression; a test may bring another."""

    def now(self, dialect: str) -> sa.ColumnElement[Any]:
        """Seconds since 1970; on Postgres of the statement's moment, not the transaction's."""
        if dialect == "postgresql":
            return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return (sa.func.julianday("now", type_=sa.Double) - 2440587.5) * 86400.0
