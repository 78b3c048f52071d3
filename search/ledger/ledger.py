"""One row per lineage of the budget, and who works on it: claim, heartbeat, end, release, reap.

A row is in one of four states, and every change of a row and of its trial is one transaction, so
after any crash the two agree. The row says what its last trial is:

    +------+  claim: a new trial, or the released one again  +--------+    end     +------+
    | free | ----------------------------------------------> | leased | ---------> | done |
    +------+ <---------------------------------------------- +--------+            +------+
     ^  ^  ^      release: the trial stays RUNNING             |  ^ |               ^  ^ |
     |  |  |                                                   |  | |               |  | |
     |  |  +---- reap, release_worker: the trial FAILs as -----+  | |               |  | |
     |  |        lost, a new one retries it; after                | |               |  | |
     |  |        max_retries the row is done ---------------------|-|---------------+  | |
     |  |                                                         | |                  | |
     |  |                Decisions.claim: the trial goes on       | | pause: it stays  | |
     |  |                                                         | v RUNNING          | |
     |  |                                                      +--------+  end_paused  | |
     |  +------- end_paused: an audited trial goes on -------- | paused | -------------+ |
     |                                                         +--------+                |
     +---------- resume: the error that halted the study was mended --------------------+

A trial that another program ended makes its row done as well. A paused row is not offered to
claims: a decision names the one that goes on (`decisions`). A row that is leased or free keeps the
step at which its trial pauses next, so whoever goes on after a loss or a release goes to that step.

`attempt` is the lease number. Each claim raises it, and every later statement compares it, as do
the writes to the trial: a worker that was declared dead and returns changes nothing.

A lease ends in one of four ways: its holder ends it, somebody stopped its trial (`by_hand`), its
supervisor saw its holder die, or it ran out while the database could be reached. The last is known
from the contacts that all workers leave in `search_study`: only when they followed each other
closely for `grace_seconds` does an expired lease mean that its holder is gone, and not that the
database was.
"""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import orm

from search import attributes
from search.attributes import Reason
from search.errors import StorageError, StudyNotFound
from search.ledger import look, lost, statements
from search.ledger.attempt import Fresh
from search.ledger.changes import Superseded
from search.ledger.records import (
    Attempt,
    Claim,
    Counts,
    Fenced,
    How,
    Lease,
    Limits,
    Row,
    RuleEnd,
    Standing,
)
from search.ledger.scope import Scope
from search.storage import Storage, schema
from search.storage.schema import Clock
from search.storage.study_rows import add_study, study_attrs, study_id_of, study_names

__all__ = ["Ledger"]


class Ledger:
    """The lineages of one study. The thread that sends heartbeats may use it as well.

    Attributes:
        storage: where the study is.
        attrs: the study's user attributes when the ledger was opened.
        limits: what the study allows its workers, from its study file.
        scope: which rows are the study's.
        on_lost: called with a lineage and its last attempt after it has ended because of too many
            lost attempts.
    """

    def __init__(
        self, storage: Storage, study_id: int, attrs: Mapping[str, Any], clock: Clock | None = None
    ) -> None:
        self.storage = storage
        self.attrs = attrs
        self.limits = Limits.of(attrs)
        storage.bound_by(self.limits.timing.lease_seconds)
        self.on_lost: Callable[[int, int], None] = lambda lineage, attempt: None
        self.scope = Scope(
            study_id=study_id,
            uid=attrs[attributes.UID],
            limits=self.limits,
            now=(clock or Clock()).now(storage.dialect),
        )

    @property
    def study_id(self) -> int:
        """Optuna's id of the study."""
        return self.scope.study_id

    @property
    def uid(self) -> str:
        """The key of the study's rows; it stays when the study is renamed."""
        return self.scope.uid

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
        clock: Clock | None = None,
    ) -> "Ledger":
        """Create a study with its lineages, whole or not at all.

        Raises:
            optuna.exceptions.DuplicatedStudyError: the name is taken, maybe just now.
        """
        uid = uuid.uuid4().hex
        attrs = {**(user_attrs or {}), attributes.UID: uid}

        def work(session: orm.Session) -> int:
            study_id = add_study(session, name, directions, attrs, system_attrs or {})
            session.execute(schema.study.insert().values(uid=uid, elapsed=0.0))
            session.execute(
                schema.lineage.insert(),
                [
                    {"uid": uid, "lineage": n, "done": 0, "attempt": 0, "lost_attempts": 0}
                    for n in range(lineages)
                ],
            )
            return study_id

        def settled(session: orm.Session) -> int | None:
            return study_id_of(session, uid)

        return cls(storage, storage.write(work, settled=settled), attrs, clock)

    @classmethod
    def open(cls, storage: Storage, name: str, *, clock: Clock | None = None) -> "Ledger":
        """The ledger of an existing study.

        Raises:
            StudyNotFound: no study of that name.
            StorageError: the study was made by another program, so it has no lineages.
        """
        found = storage.read(lambda session: study_attrs(session, name))
        if found is None:
            raise StudyNotFound(name, storage.url, storage.read(study_names))
        study_id, attrs = found
        if attributes.UID not in attrs:
            raise StorageError(
                f"study {name!r} in {storage.url} was made by another program and has no budget "
                "of lineages; give the study another name"
            )
        return cls(storage, study_id, attrs, clock)

    # A worker's calls, in the order in which it makes them.

    def claim(
        self,
        worker: str,
        fresh: Callable[[int], Fresh | None] = lambda lineage: Fresh(),
        *,
        origin: Mapping[str, Any] | None = None,
    ) -> Claim | None:
        """Reap, then lease a free lineage with its trial; interrupted ones come first.

        A trial that was released goes on; one that was lost is followed by a new trial.

        Args:
            worker: a name that no other process has; at most 255 characters.
            fresh: called with a lineage that was never tried, inside the transaction; None where
                it shall not begin.
            origin: user attributes of every attempt, such as where it runs.

        Returns:
            None when nothing is free now: all done, leased or paused, or the study is halted; and
            when `fresh` gave none, or what it gave was decided before another decision was carried
            out, or before the study was amended.
        """
        token = uuid.uuid4().hex

        def work(session: orm.Session) -> tuple[Claim | None, dict[int, int | None]]:
            freed = lost.reap(session, self.scope)
            claim = statements.claim(session, self.scope, worker, token, fresh, origin or {})
            statements.touch(session, self.scope)
            return claim, freed

        def settled(session: orm.Session) -> tuple[Claim, dict[int, int | None]] | None:
            claim = statements.claimed(session, self.scope, worker, token)
            return None if claim is None else (claim, {})

        try:
            claim, freed = self.storage.write(work, settled=settled)
        except Superseded:
            return None
        self._report_lost(freed)
        if claim is not None:
            self.storage.optuna.learn(self.study_id, claim.trial)
        return claim

    def heartbeat(
        self, lease: Lease, *, longest_pause_s: float = 5.0, give_up: Any = None
    ) -> Standing | None:
        """Prolong the lease; how the study stands, or None when the lease is no longer ours.

        It does not wait for the server's disk: after a crash an earlier heartbeat counts.
        """

        def work(session: orm.Session) -> Standing | None:
            ours = statements.prolong(session, self.scope, lease)
            statements.touch(session, self.scope)
            return look.standing(session, self.scope) if ours else None

        return self.storage.write(
            work, longest_pause_s=longest_pause_s, give_up=give_up, durable=False
        )

    def end(
        self,
        claim: Claim,
        state: TrialState,
        value: float | Sequence[float] | None = None,
        *,
        reason: Reason | None = None,
        attrs: Mapping[str, Any] | None = None,
        steps: Mapping[int, float] | None = None,
    ) -> None:
        """End the trial and its lineage.

        Args:
            state: COMPLETE, PRUNED or FAIL.
            value: of the trial; with two metrics one of each, or none.
            attrs: user attributes to set with it ("error", "traceback").
            steps: last reports to write with it.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        attrs = dict(attrs or {})
        if reason is not None:
            attrs[attributes.REASON] = reason.value

        def work(session: orm.Session) -> bool:
            return statements.end(
                session, self.scope, claim.lease, claim.trial.number, state, value, attrs,
                steps or {},
            )  # fmt: skip

        self._leave(claim, work, statements.ended_as(state, attrs))

    def release(self, claim: Claim) -> None:
        """Free the lineage at once; the next claim goes on with its trial. No attempt is lost.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        self._release(claim, Reason.STOPPED.value, paused=False)

    def pause(self, claim: Claim) -> None:
        """Give the lineage up until a decision lets its trial go on. No attempt is lost.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        self._release(claim, How.PAUSED.value, paused=True)

    def _release(self, claim: Claim, how: str, *, paused: bool) -> None:
        lease, number = claim.lease, claim.trial.number

        def work(session: orm.Session) -> bool:
            return statements.release(session, self.scope, lease, number, how, paused=paused)

        self._leave(claim, work, how)

    def _leave(self, claim: Claim, work: Callable[[orm.Session], bool], how: str) -> None:
        """End an attempt; an own write is recognised by the attempt's row, which nobody shares."""

        def settled(session: orm.Session) -> bool | None:
            return statements.closed(session, self.scope, claim.lease, how)

        left = self.storage.write(work, settled=settled)
        self.storage.optuna.forget(claim.trial._trial_id)
        if not left:
            raise Fenced(
                f"trial {claim.trial.number} was taken from {claim.lease.worker}; its result is "
                "dropped"
            )

    # Everybody's calls.

    def reap(self) -> int:
        """Fail the trials of dead workers and free their lineages; returns how many.

        Leaves a contact, so a waiting worker or supervisor that calls it at least every two
        heartbeats keeps the database known as reachable.
        """

        def work(session: orm.Session) -> dict[int, int | None]:
            freed = lost.reap(session, self.scope)
            statements.touch(session, self.scope)
            return freed

        return self._report_lost(self.storage.write(work))

    def release_worker(self, worker: str, *, blame: bool = True) -> int:
        """Fail the trials of a worker that is known to be dead and free them; returns how many.

        Args:
            blame: whether the lost attempts count towards `max_retries`; not when the machine or
                its scheduler ended the worker.
        """
        return self._report_lost(
            self.storage.write(
                lambda session: lost.lose_worker(session, self.scope, worker, blame=blame)
            )
        )

    def forgive(self, worker: str) -> int:
        """Let no loss of a worker count, as its engine ended it; returns how many there were."""
        return self.storage.write(lambda session: lost.forgive(session, self.scope, worker))

    def lost_workers(self, names: Collection[str]) -> set[str]:
        """Those of the workers whose last attempt was lost."""
        return self.storage.read(lambda session: lost.lost_workers(session, self.scope, names))

    def _report_lost(self, freed: Mapping[int, int | None]) -> int:
        """After the commit: report lineages that ended as lost. Returns the lost attempts."""
        for lineage, last_attempt in freed.items():
            if last_attempt is not None:
                self.on_lost(lineage, last_attempt)
        return len(freed)

    def halt(self, cause: str) -> None:
        """Let no further trial start. The first cause is kept."""
        self.storage.write(lambda session: statements.halt(session, self.scope, cause))

    def standing(self) -> Standing:
        """Whether trials may begin: halted, paused by hand, or ended by a stop rule."""
        return self.storage.read(lambda session: look.standing(session, self.scope))

    def end_by(self, rule: str, trial: int, text: str, *, amendment: int) -> RuleEnd | None:
        """Record the stop rule that ends the study; see `statements.end_by`."""
        return self.storage.write(
            lambda s: statements.end_by(s, self.scope, rule, trial, text, amendment=amendment)
        )

    def resume(self) -> int:
        """End a halt and free the lineages that had ended in its error; returns how many.

        A lineage belongs to the halt when `recent_errors` gives the halt's cause for its trial.
        """
        return self.storage.write(lambda session: statements.resume(session, self.scope))

    # What there is to see; nothing of it changes anything.

    def recent_errors(self, count: int = 3) -> list[str | None]:
        """Type and place of the errors of the lineages that ended last, newest first.

        None for a lineage that ended otherwise.
        """
        return self.storage.read(lambda session: look.recent_errors(session, self.scope, count))

    def counts(self) -> Counts:
        """Lineages by state."""
        return self.storage.read(lambda session: look.counts(session, self.scope))

    def busy(self) -> bool:
        """Whether anybody holds a lease; costs the same however large the budget is."""
        return self.storage.read(lambda session: look.busy(session, self.scope))

    def steps(self) -> int:
        """The steps that all lineages have reported; one that is repeated counts once."""
        return self.storage.read(lambda session: look.steps(session, self.scope))

    def rows(self, *, begun: bool = False) -> list[Row]:
        """Every lineage, or those that have begun, by index."""
        return self.storage.read(lambda session: look.rows(session, self.scope, begun=begun))

    def running(self) -> list[Row]:
        """The leased lineages, by index; costs as much as there are, not as the budget."""
        return self.storage.read(lambda session: look.rows(session, self.scope, running=True))

    def resting(self) -> dict[int, str]:
        """The trials that nobody runs although they have begun: "paused" or "released", each."""
        return self.storage.read(lambda session: look.resting(session, self.scope))

    def attempts(self) -> list[Attempt]:
        """Every attempt, by lineage and number; a released trial has several."""
        return self.storage.read(lambda session: look.attempts(session, self.scope))

    def elapsed(self) -> float:
        """Seconds in which at least one worker was at work, over all runs of the study."""
        return self.storage.read(lambda session: look.elapsed(session, self.scope))
