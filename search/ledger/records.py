"""The records that the ledger hands out."""

from dataclasses import dataclass

from optuna.trial import FrozenTrial

__all__ = ["Claim", "Counts", "Fenced", "Lease", "Row", "Timing"]


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
        trial: as it was created: number, parameters given or carried over, reports carried over.
        previous: number of the trial that it continues; None for a lineage's first attempt.
    """

    lease: Lease
    trial: FrozenTrial
    previous: int | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Lineages by state, and attempts lost so far."""

    total: int
    done: int
    running: int
    free: int
    losses: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One lineage as `status` shows it; ages in seconds by the database's clock."""

    lineage: int
    done: bool
    attempt: int
    losses: int
    trial: int | None
    worker: str | None
    running_seconds: float | None
    heartbeat_age_seconds: float | None
