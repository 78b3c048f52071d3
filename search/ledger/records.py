"""The records that the ledger takes and returns."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.spec import Workers, read_workers

__all__ = [
    "Attempt",
    "Choice",
    "Claim",
    "Counts",
    "Fenced",
    "How",
    "Lease",
    "Limits",
    "Row",
    "RuleEnd",
    "Standing",
    "Timing",
]


class Fenced(Exception):
    """The lease is no longer ours: whatever we did since counts for nothing."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When a worker counts as dead.

    Attributes:
        heartbeat_seconds: between two proofs of life.
        lease_seconds: without proof of life before a worker is suspected.
        grace_seconds: for which the database must have been reachable before the suspicion holds.
    """

    heartbeat_seconds: float = 5.0
    lease_seconds: float = 30.0
    grace_seconds: float = 15.0

    @classmethod
    def of_heartbeat(cls, heartbeat_seconds: float) -> "Timing":
        return cls(
            heartbeat_seconds=heartbeat_seconds,
            lease_seconds=6 * heartbeat_seconds,
            grace_seconds=3 * heartbeat_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a study allows its workers.

    Attributes:
        timing: when a worker counts as dead.
        max_retries: how many lost attempts of a lineage are followed by another one.
    """

    timing: Timing
    max_retries: int

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> "Limits":
        """The limits of a study, by its user attributes.

        They stand in the study file; a study without one, of StudySearchCV, has the defaults.
        """
        spec = attrs.get(attributes.SPEC)
        workers = Workers() if spec is None else read_workers(spec)
        timing = Timing.of_heartbeat(workers.heartbeat_seconds)
        return cls(timing=timing, max_retries=workers.max_retries)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to run one attempt of a lineage."""

    uid: str
    lineage: int
    attempt: int
    worker: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A lease and the RUNNING trial that belongs to it.

    Attributes:
        trial: as it stands: number, parameters and reports of earlier attempts included.
        pause_at: the step at which it pauses; None: it runs to its end.
    """

    lease: Lease
    trial: FrozenTrial
    pause_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a decision chose for a lineage that has begun.

    Attributes:
        number: of the decision: how many were carried out before it.
        pause_at: the step at which the trial pauses next; None: it runs to its end.
        record: what the decision was made of, as JSON values; it is stored with the trial.
    """

    number: int
    pause_at: int | None
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Lineages by state.

    Attributes:
        free: that a claim may lease: never begun, or interrupted.
        begun: that have a trial, whatever their state.
        lost_attempts: that count towards `max_retries`.
    """

    total: int
    done: int
    running: int
    paused: int
    free: int
    begun: int
    lost_attempts: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One lineage as `status` shows it; ages in seconds by the database's clock."""

    lineage: int
    done: bool
    paused: bool
    pause_at: int | None
    attempt: int
    lost_attempts: int
    trial: int | None
    worker: str | None
    running_seconds: float | None
    heartbeat_age_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class RuleEnd:
    """The stop rule of the budget that ended a study.

    Attributes:
        rule: the key of the study file, "target" or "patience"; or why nothing more could be
            completed: "hours", "steps" or "trials".
        trial: the number of the best trial then; None without one.
        text: in words.
        at: UTC, by the database's clock.
    """

    rule: str
    trial: int | None
    text: str
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """JSON values, as they are stored."""
        return {**asdict(self), "at": self.at.isoformat()}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Whether the trials of a study may begin.

    Attributes:
        halted: the error for which none may start; None without any.
        held_since: since when somebody has paused the study, UTC; None: nobody has.
        ended_by: the stop rule that ended it; None: none has.
    """

    halted: str | None
    held_since: datetime | None
    ended_by: RuleEnd | None


class How(StrEnum):
    """How an attempt ended, where the trial's state or its `Reason` does not say it."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"
    PAUSED = "paused"
    ELSEWHERE = "elsewhere"  # another program ended the trial
    LOST_UNCOUNTED = "lost-uncounted"  # lost, but its engine ended the worker; read as "lost"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a lineage; times are UTC by the database's clock.

    Attributes:
        worker: None where an older version did not record it.
        ended: None while it runs.
        how: a `Reason`'s value ("stopped": released, "lost", "error", ...), or a value of `How`;
            None while it runs.
    """

    lineage: int
    attempt: int
    trial: int
    worker: str | None
    began: datetime
    ended: datetime | None
    how: str | None
