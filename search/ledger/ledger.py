"""One row per lineage of the budget: claim, beat, end, hand back, reap.

A row is free (nobody's), leased (a worker's, and its trial is RUNNING) or done. Every change of a
row and of its trial is one transaction, so after any crash the two agree:

    free --claim--> leased --end--> done
      ^               |
      +--release, reap, release_worker (lost, not more often than max_retries)

`attempt` is the lease number. Each claim raises it, and every later statement compares it: a
worker that was declared dead and returns changes nothing.

A lease ends in one of three ways: its holder ends it, its supervisor saw its holder die, or it
ran out while the database could be reached. The last is known from the contacts that all workers
leave in `search_study`: only when they followed each other closely for `grace_seconds` does an
expired lease mean that its holder is gone, and not that the database was.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.errors import StorageError, StudyNotFound
from search.ledger.attempt import Fresh
from search.ledger.records import Claim, Counts, Fenced, Lease, Row, Timing
from search.ledger.statements import Lineages
from search.storage import Storage, schema
from search.storage.schema import Clock
from search.storage.study_rows import add_study, study_id_of
from search.storage.trial_rows import finish_trial

__all__ = ["Claim", "Counts", "Fenced", "Lease", "Ledger", "Row", "Timing"]

_L = schema.lineage.c
_S = schema.study.c


class Ledger(Lineages):
    """The lineages of one study. Safe to use from the thread that beats as well."""

    def __init__(
        self,
        storage: Storage,
        study_id: int,
        uid: str,
        *,
        timing: Timing | None = None,
        max_retries: int = 3,
        clock: Clock | None = None,
    ) -> None:
        now = (clock or Clock()).now(storage.dialect)
        super().__init__(study_id, uid, timing or Timing(), max_retries, now)
        self.storage = storage

    @classmethod
    def create(
        cls,
        storage: Storage,
        name: str,
        *,
        directions: Sequence[StudyDirection],
        lineages: int,
        user_attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "Ledger":
        """Create a study with its lineages, whole or not at all.

        Raises:
            optuna.exceptions.DuplicatedStudyError: the name is taken, maybe just now.
        """
        uid = uuid.uuid4().hex

        def work(session: orm.Session) -> int:
            attrs = {**(user_attrs or {}), attributes.UID: uid}
            study_id = add_study(session, name, directions, attrs, system_attrs or {})
            session.execute(schema.study.insert().values(uid=uid, elapsed=0.0))
            session.execute(
                schema.lineage.insert(),
                [
                    {"uid": uid, "lineage": n, "done": 0, "attempt": 0, "losses": 0}
                    for n in range(lineages)
                ],
            )
            return study_id

        def settled(session: orm.Session) -> int | None:
            return study_id_of(session, uid)

        return cls(storage, storage.write(work, settled=settled), uid, **options)

    @classmethod
    def open(cls, storage: Storage, name: str, **options: Any) -> "Ledger":
        """The ledger of an existing study.

        Raises:
            StudyNotFound: no study of that name.
            StorageError: the study was made by another program, so it has no lineages.
        """
        known = {study.study_name: study for study in storage.optuna.get_all_studies()}
        if name not in known:
            raise StudyNotFound(name, storage.url, sorted(known))
        uid = known[name].user_attrs.get(attributes.UID)
        if uid is None:
            raise StorageError(
                f"study {name!r} in {storage.url} was made by another program and has no budget "
                "of lineages; give the study another name"
            )
        return cls(storage, known[name]._study_id, uid, **options)

    # A worker's calls, in the order in which it makes them.

    def claim(
        self,
        worker: str,
        fresh: Callable[[int], Fresh] = lambda lineage: Fresh(),
        *,
        origin: Mapping[str, Any] | None = None,
    ) -> Claim | None:
        """Reap, then lease a free lineage and create its trial; interrupted ones come first.

        Args:
            worker: a name that no other process has; at most 255 characters.
            fresh: called with a lineage that was never tried, inside the transaction.
            origin: user attributes of every attempt, such as where it runs.

        Returns:
            None when nothing is free now: all done or leased, or the study is halted.
        """
        token = uuid.uuid4().hex

        def work(session: orm.Session) -> tuple[Claim | None, dict[int, bool]]:
            lost = self._reap(session)
            claim = self._claim(session, worker, token, fresh, origin or {})
            self._touch(session)
            return claim, lost

        def settled(session: orm.Session) -> tuple[Claim, dict[int, bool]] | None:
            claim = self._claimed(session, worker, token)
            return None if claim is None else (claim, {})

        claim, lost = self.storage.write(work, settled=settled)
        self._tell(lost)
        if claim is not None:
            self.storage.optuna.learn(self.study_id, claim.trial)
        return claim

    def heartbeat(self, lease: Lease, *, longest_pause_s: float = 5.0, give_up: Any = None) -> bool:
        """Prolong the lease; False when it is no longer ours."""

        def work(session: orm.Session) -> bool:
            count = self._update(
                session,
                self._held(lease),
                beat=self._now,
                until=self._now + self.timing.lease_seconds,
            )
            self._touch(session)
            return count == 1

        return self.storage.write(work, longest_pause_s=longest_pause_s, give_up=give_up)

    def end(
        self,
        claim: Claim,
        state: TrialState,
        value: float | None = None,
        *,
        reason: Reason | None = None,
        attrs: Mapping[str, Any] | None = None,
        steps: Mapping[int, float] | None = None,
    ) -> None:
        """End the trial and its lineage.

        Args:
            state: COMPLETE, PRUNED or FAIL.
            attrs: user attributes to set with it ("error", "traceback").
            steps: last reports to write with it.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        self._end(claim, state, value, reason, dict(attrs or {}), steps or {}, done=True)

    def release(self, claim: Claim) -> None:
        """End the trial as stopped and free its lineage at once; counts as no loss.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        self._end(claim, TrialState.FAIL, None, Reason.STOPPED, {}, {}, done=False)

    # Everybody's calls.

    def reap(self) -> int:
        """Fail the trials of dead workers and free their lineages; returns how many.

        Leaves a contact, so a waiting worker or supervisor that calls it at least every two beats
        keeps the database known as reachable.
        """

        def work(session: orm.Session) -> dict[int, bool]:
            lost = self._reap(session)
            self._touch(session)
            return lost

        return self._tell(self.storage.write(work))

    def release_worker(self, worker: str) -> int:
        """Free what a worker held that is known to be dead; counts as a loss. Returns how many."""

        return self._tell(
            self.storage.write(
                lambda session: self._lose_all(session, self._leased(_L.worker == worker))
            )
        )

    def halt(self, cause: str) -> None:
        """Let no further trial start. The first cause is kept."""
        self.storage.write(
            lambda session: session.execute(
                schema.study.update()
                .where(_S.uid == self.uid, _S.halted.is_(None))
                .values(halted=cause)
            )
        )

    def halted(self) -> str | None:
        """Why no trial may start; None when they may."""
        return self.storage.read(
            lambda session: session.scalar(sa.select(_S.halted).where(_S.uid == self.uid))
        )

    def resume(self) -> int:
        """End a halt and free the lineages that had ended in its error; returns how many.

        A lineage belongs to the halt when `recent_errors` gives the halt's cause for its trial.
        """

        def work(session: orm.Session) -> int:
            cause = session.scalar(sa.select(_S.halted).where(_S.uid == self.uid).with_for_update())
            if cause is None:
                return 0
            session.execute(schema.study.update().where(_S.uid == self.uid).values(halted=None))
            hit = [
                row.lineage
                for row in session.execute(
                    sa.select(_L.lineage, _L.trial).where(self._mine, _L.done == 1)
                )
                if row.trial is not None and self._error(session, row.trial) == cause
            ]
            return self._update(session, [self._mine, _L.lineage.in_(hit)], done=0, ended=None)

        return self.storage.write(work)

    def recent_errors(self, count: int = 3) -> list[str | None]:
        """Type and place of the errors of the lineages that ended last, newest first.

        None for a lineage that ended otherwise.
        """

        def work(session: orm.Session) -> list[str | None]:
            ended = session.scalars(
                sa.select(_L.trial)
                .where(self._mine, _L.done == 1, _L.trial.is_not(None))
                .order_by(_L.ended.desc(), _L.lineage.desc())
                .limit(count)
            ).all()
            return [self._error(session, number) for number in ended if number is not None]

        return self.storage.read(work)

    def counts(self) -> Counts:
        def work(session: orm.Session) -> Counts:
            row = session.execute(
                sa.select(
                    sa.func.count(),
                    sa.func.coalesce(sa.func.sum(_L.done), 0),
                    sa.func.count(_L.worker),
                    sa.func.coalesce(sa.func.sum(_L.losses), 0),
                ).where(self._mine)
            ).one()
            total, done, running, losses = map(int, row)
            return Counts(
                total=total,
                done=done,
                running=running,
                free=total - done - running,
                losses=losses,
            )

        return self.storage.read(work)

    def rows(self) -> list[Row]:
        """Every lineage, by index."""

        def work(session: orm.Session) -> list[Row]:
            running = sa.case((_L.worker.is_not(None), self._now - _L.since))
            age = sa.case((_L.worker.is_not(None), self._now - _L.beat))
            return [
                Row(
                    lineage=row.lineage,
                    done=bool(row.done),
                    attempt=row.attempt,
                    losses=row.losses,
                    trial=row.trial,
                    worker=row.worker,
                    running_seconds=row.running,
                    heartbeat_age_seconds=row.age,
                )
                for row in session.execute(
                    sa.select(schema.lineage, running.label("running"), age.label("age"))
                    .where(self._mine)
                    .order_by(_L.lineage)
                )
            ]

        return self.storage.read(work)

    def elapsed(self) -> float:
        """Seconds in which at least one worker was at work, over all runs of the study."""
        value = self.storage.read(
            lambda session: session.scalar(sa.select(_S.elapsed).where(_S.uid == self.uid))
        )
        return float(value or 0.0)

    def _end(
        self,
        claim: Claim,
        state: TrialState,
        value: float | None,
        reason: Reason | None,
        attrs: dict[str, Any],
        steps: Mapping[int, float],
        *,
        done: bool,
    ) -> None:
        if reason is not None:
            attrs[attributes.REASON] = reason.value

        def work(session: orm.Session) -> bool:
            freed: dict[str, Any] = {"worker": None, "until": None}
            if done:
                freed |= {"done": 1, "ended": self._now}
            if self._update(session, self._held(claim.lease), **freed) != 1:
                return False
            trial_id = self._lock_running(session, claim.trial.number)
            if trial_id is None:  # another program ended it: it counts
                self._update(session, self._attempt(claim.lease), done=1, ended=self._now)
                return False
            finish_trial(session, trial_id, state, value=value, user_attrs=attrs, steps=steps)
            return True

        def settled(session: orm.Session) -> bool | None:
            trial = self._trial(session, claim.trial.number)
            ours = (state, attrs.get(attributes.REASON))
            if trial is not None and (trial.state, trial.user_attrs.get(attributes.REASON)) == ours:
                return True
            return None

        ended = self.storage.write(work, settled=settled)
        self.storage.optuna.forget(claim.trial._trial_id)
        if not ended:
            raise Fenced(
                f"trial {claim.trial.number} was taken from {claim.lease.worker}; its result is "
                "dropped"
            )
