"""A clock that the test owns, and a worker's short life, for the tests of the ledger."""

from typing import Any

import optuna
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search import attributes
from search.ledger import Claim, Ledger, Timing
from search.storage import Storage
from search.storage.schema import Clock

COMPLETE, PRUNED, FAIL, RUNNING = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAIL,
    TrialState.RUNNING,
)
MAXIMIZE = [StudyDirection.MAXIMIZE]
TIMING = Timing(heartbeat_seconds=5.0, lease_seconds=30.0, grace_seconds=15.0)


def limits(*, heartbeat_seconds: float = 5.0, max_retries: int = 3) -> dict[str, Any]:
    """User attributes of a study that allows its workers so much."""
    workers = f"heartbeat_seconds = {heartbeat_seconds}\nmax_retries = {max_retries}"
    return {attributes.SPEC: f"[workers]\n{workers}\n"}


class HandClock(Clock):
    """Stands still unless moved."""

    def __init__(self, seconds: float = 1_000_000.0) -> None:
        self.seconds = seconds

    def now(self, dialect: str) -> sa.ColumnElement[Any]:
        return sa.bindparam("clock", callable_=lambda: self.seconds, type_=sa.Double)


def pass_time(ledger: Ledger, clock: HandClock, seconds: float) -> None:
    """Let time pass while somebody looks at the database once a heartbeat."""
    for _ in range(int(seconds / TIMING.heartbeat_seconds)):
        clock.seconds += TIMING.heartbeat_seconds
        ledger.reap()


def states(storage: Storage, ledger: Ledger) -> list[tuple[TrialState, Any, Any, Any]]:
    """State, lineage, reason and retry_of of every trial, by number."""
    return [
        (t.state, t.user_attrs["lineage"], t.user_attrs.get("reason"), t.user_attrs.get("retry_of"))
        for t in storage.optuna.get_all_trials(ledger.study_id)
    ]


def must(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


def trial_of(storage: Storage, ledger: Ledger, claim: Claim) -> optuna.Trial:
    study = optuna.load_study(
        study_name="s", storage=storage.optuna, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    assert study._study_id == ledger.study_id
    return optuna.Trial(study, claim.trial._trial_id)
