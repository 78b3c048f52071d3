"""What there is to see of one study's rows: functions of a transaction, which only reads."""

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.ledger.records import Attempt, Counts, How, Row, RuleEnd, Standing
from search.ledger.scope import Scope
from search.storage import schema
from search.storage.optuna_tables import trial_steps, trial_user_attrs, trials

__all__ = [
    "amendment",
    "attempts",
    "busy",
    "counts",
    "decisions",
    "elapsed",
    "ended",
    "recent_errors",
    "rows",
    "standing",
    "steps",
    "under_way",
]

_L = schema.lineage.c
_H = schema.attempt.c
_T = trials.c
_U = trial_user_attrs.c


def counts(session: orm.Session, scope: Scope) -> Counts:
    """Lineages by state."""
    row = session.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(_L.done), 0),
            sa.func.count(_L.worker),
            sa.func.coalesce(sa.func.sum(_L.paused), 0),
            sa.func.count(_L.trial),
            sa.func.coalesce(sa.func.sum(_L.lost_attempts), 0),
        ).where(scope.mine)
    ).one()
    total, done, running, paused, begun, lost = map(int, row)
    return Counts(
        total=total,
        done=done,
        running=running,
        paused=paused,
        free=total - done - running - paused,
        begun=begun,
        lost_attempts=lost,
    )


def busy(session: orm.Session, scope: Scope) -> bool:
    """Whether a lineage is leased."""
    leased = sa.select(sa.exists().where(scope.mine, _L.worker.is_not(None)))
    return bool(session.scalar(leased))


def ended(session: orm.Session, scope: Scope) -> dict[int, float]:
    """When the last trial of each lineage that is done ended, in seconds, by its number."""
    where = [scope.mine, _L.done == 1, _L.trial.is_not(None), _L.ended.is_not(None)]
    rows = session.execute(sa.select(_L.trial, _L.ended).where(*where))
    return {int(row.trial): float(row.ended) for row in rows}


def under_way(session: orm.Session, scope: Scope) -> bool:
    """Whether a lineage that has begun runs, or was interrupted and goes on."""
    begun = [scope.mine, _L.trial.is_not(None), _L.done == 0, _L.paused == 0]
    return bool(session.scalar(sa.select(sa.exists().where(*begun))))


def elapsed(session: orm.Session, scope: Scope) -> float:
    """Seconds in which somebody was at work."""
    where = schema.study.c.uid == scope.uid
    return float(session.scalar(sa.select(schema.study.c.elapsed).where(where)) or 0.0)


def steps(session: orm.Session, scope: Scope) -> int:
    """The steps that the last trials of all lineages have reported."""
    counted = session.scalar(
        sa.select(sa.func.count())
        .select_from(trial_steps)
        .join(trials, _T.trial_id == trial_steps.c.trial_id)
        .join(schema.lineage, sa.and_(scope.mine, _L.trial == _T.number))
        .where(_T.study_id == scope.study_id)
    )
    return int(counted or 0)


def decisions(session: orm.Session, scope: Scope) -> int:
    """How many decisions were carried out."""
    found = session.scalar(
        sa.select(schema.study.c.decisions).where(schema.study.c.uid == scope.uid)
    )
    return int(found or 0)


def amendment(session: orm.Session, scope: Scope) -> int:
    """The number of the last amendment; 0 without any."""
    table = schema.amendment.c
    last = session.scalar(sa.select(sa.func.max(table.number)).where(table.uid == scope.uid))
    return int(last or 0)


def standing(session: orm.Session, scope: Scope) -> Standing:
    """Whether trials may begin; of a study that was deleted, as if they might."""
    study = schema.study.c
    row = session.execute(
        sa.select(study.halted, study.held_since, study.ended_by).where(study.uid == scope.uid)
    ).one_or_none()
    if row is None:
        return Standing(halted=None, held_since=None, ended_by=None)
    end = None
    if row.ended_by is not None:
        stored = json.loads(row.ended_by)
        end = RuleEnd(**{**stored, "at": datetime.fromisoformat(stored["at"])})
    held = row.held_since
    return Standing(
        halted=row.halted,
        held_since=None if held is None else datetime.fromtimestamp(held, UTC),
        ended_by=end,
    )


def resting(session: orm.Session, scope: Scope) -> dict[int, str]:
    """The numbers of trials that have begun and that nobody runs: "paused", else "released"."""
    begun = [scope.mine, _L.done == 0, _L.worker.is_(None), _L.trial.is_not(None)]
    found = session.execute(sa.select(_L.trial, _L.paused).where(*begun))
    return {row.trial: "paused" if row.paused else "released" for row in found}


def rows(
    session: orm.Session, scope: Scope, *, running: bool = False, begun: bool = False
) -> list[Row]:
    """Every lineage, or only those that run or that have begun, by index."""
    leased = _L.worker.is_not(None)
    since = sa.case((leased, scope.now - _L.since)).label("since_seconds")
    age = sa.case((leased, scope.now - _L.heartbeat)).label("age_seconds")
    which = [scope.mine]
    if running:
        which.append(leased)
    if begun:
        which.append(_L.trial.is_not(None))
    return [
        Row(
            lineage=row.lineage,
            done=bool(row.done),
            paused=bool(row.paused),
            pause_at=row.pause_at,
            attempt=row.attempt,
            lost_attempts=row.lost_attempts,
            trial=row.trial,
            worker=row.worker,
            running_seconds=row.since_seconds,
            heartbeat_age_seconds=row.age_seconds,
        )
        for row in session.execute(
            sa.select(schema.lineage, since, age).where(*which).order_by(_L.lineage)
        )
    ]


def attempts(session: orm.Session, scope: Scope) -> list[Attempt]:
    """Every attempt, by lineage and number."""
    return [
        Attempt(
            lineage=row.lineage,
            attempt=row.attempt,
            trial=row.trial,
            worker=row.worker,
            began=datetime.fromtimestamp(row.began, UTC),
            ended=None if row.ended is None else datetime.fromtimestamp(row.ended, UTC),
            how=Reason.LOST.value if row.how == How.LOST_UNCOUNTED else row.how,
        )
        for row in session.execute(
            sa.select(schema.attempt).where(_H.uid == scope.uid).order_by(_H.lineage, _H.attempt)
        )
    ]


def recent_errors(session: orm.Session, scope: Scope, count: int) -> list[str | None]:
    """Type and place of the errors of the lineages that ended last, newest first.

    None for a lineage that ended otherwise, as by divergence. The text of an error stands for its
    place where an older version stored none.
    """
    last = (
        sa.select(_L.trial, _L.ended, _L.lineage)
        .where(scope.mine, _L.done == 1, _L.trial.is_not(None))
        .order_by(_L.ended.desc(), _L.lineage.desc())
        .limit(count)
        .subquery()
    )

    def attr(key: str) -> sa.ScalarSelect[str]:
        return (
            sa.select(_U.value_json)
            .join(trials, _T.trial_id == _U.trial_id)
            .where(_T.study_id == scope.study_id, _T.number == last.c.trial, _U.key == key)
            .scalar_subquery()
        )

    place = sa.func.coalesce(attr(attributes.ERROR_AT), attr(attributes.ERROR))
    by_error = attr(attributes.REASON) == json.dumps(Reason.ERROR.value)
    found = session.scalars(
        sa.select(sa.case((by_error, place)))
        .select_from(last)
        .order_by(last.c.ended.desc(), last.c.lineage.desc())
    )
    return [None if stored is None else json.loads(stored) for stored in found]
