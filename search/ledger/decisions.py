"""Carries out decisions on which paused trial goes on, and ends those that never will."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import orm

from search.ledger import look, pauses, statements
from search.ledger.changes import Superseded
from search.ledger.ledger import Ledger
from search.ledger.records import Choice, Claim, Fenced, Lease, Row

__all__ = ["Decisions"]


class Decisions:
    """The decisions of one study.

    A decision is made outside of any transaction, from what is stored. It has a number, the count
    of those carried out before it, and is carried out only while that count stands: of several
    workers that decide at once, one succeeds, and the others decide again with what it did in view.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._scope = ledger.scope

    def count(self) -> int:
        """How many were carried out: the number of the next."""
        return self._ledger.storage.read(lambda session: look.decisions(session, self._scope))

    def claim(
        self, worker: str, row: Row, choice: Choice, *, origin: Mapping[str, Any] | None = None
    ) -> Claim | None:
        """Lease a paused lineage; its trial goes on to the next pause.

        Args:
            row: the lineage as it was when the decision was made.

        Returns:
            None when the decision is void: the lineage was taken or has ended, another decision
            was carried out since, or the study is halted.
        """
        token = uuid.uuid4().hex
        lease = Lease(
            uid=self._ledger.uid, lineage=row.lineage, attempt=row.attempt + 1, worker=worker
        )

        def work(session: orm.Session) -> Claim | None:
            claim = pauses.claim_paused(
                session, self._scope, lease, token, choice, dict(origin or {})
            )
            statements.touch(session, self._scope)
            return claim

        def settled(session: orm.Session) -> Claim | None:
            return statements.claimed(session, self._scope, worker, token)

        try:
            claim = self._ledger.storage.write(work, settled=settled)
        except Superseded:
            return None
        if claim is not None:
            self._ledger.storage.optuna.learn(self._ledger.study_id, claim.trial)
        return claim

    def go_on(self, claim: Claim, choice: Choice) -> bool:
        """Let a trial that this worker runs go past its pause, to the next one.

        Returns:
            False when the decision is void, as another was carried out since.

        Raises:
            Fenced: the lease is no longer ours; nothing was changed.
        """
        arguments = (self._scope, claim.lease, claim.trial.number, choice)
        storage = self._ledger.storage
        try:
            trial = storage.write(
                lambda session: pauses.go_on(session, *arguments),
                settled=lambda session: pauses.went_on(session, *arguments),
            )
        except Superseded:
            return False
        if trial is None:
            raise Fenced(f"trial {claim.trial.number} was taken from {claim.lease.worker}")
        storage.optuna.learn(self._ledger.study_id, trial)
        return True

    def end_elsewhere(self) -> None:
        """End the paused lineages whose trial another program ended: they count."""
        self._ledger.storage.write(
            lambda session: pauses.end_paused_elsewhere(session, self._scope)
        )

    def end_early(
        self, rule: str, trial: int | None, text: str, *, amendment: int, decision: int
    ) -> None:
        """Record why nothing more can be completed; see `statements.end_early`."""
        self._ledger.storage.write(
            lambda session: statements.end_early(
                session, self._scope, rule, trial, text, amendment=amendment, decision=decision
            )
        )

    def end_paused(
        self,
        audited: Callable[[int], bool] = lambda lineage: False,
        *,
        finish: int | None = None,
        amendment: int,
        by_rule: bool = False,
    ) -> list[int]:
        """End all paused lineages, because the budget is used up; their trials are PRUNED.

        Args:
            audited: whether a lineage runs to its end instead; claims then offer it.
            finish: a lineage that does so without the mark of an audit.
            amendment: the number of the last one when the budget was found used up.
            by_rule: whether a stop rule had ended the study then.

        Returns:
            Every lineage of the study that ended so, now or earlier: nobody needs its checkpoint.
            None, and nothing is done, where the study was amended since, or let go on.
        """
        return self._ledger.storage.write(
            lambda session: pauses.end_paused(
                session, self._scope, audited, finish, amendment, by_rule
            )
        )
