"""Finds the study that confirms another one, and reads what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.aims.confirmed import Candidate, Confirmation, candidates, repeat_values
from search.ledger import Ledger
from search.ledger.amendments import Amendment
from search.spec import StudySpec
from search.storage import Storage
from search.storage.study_rows import Marked, marked_studies

__all__ = [
    "Mark",
    "confirmations",
    "confirming_ledgers",
    "find_confirmation",
    "lineage_of",
    "mark_of",
    "read_marks",
]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a study confirms; stored with it, as `attributes.CONFIRMS`.

    Attributes:
        uid: of the study that is confirmed.
        amendments: the number of its last amendment that changed more than [refit]; 0 without one.
        trials: the numbers of its candidates, the best first.
    """

    uid: str
    amendments: int
    trials: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {**asdict(self), "trials": list(self.trials)}


def mark_of(
    spec: StudySpec,
    uid: str,
    amendments: Sequence[Amendment],
    trials: Sequence[FrozenTrial],
    params_of: Callable[[FrozenTrial], Mapping[str, Any]],
) -> Mark | None:
    """The mark of the study that confirms the present best trials; None where there are none.

    None as well where the study file has no [confirm].

    Args:
        uid: of the study.
        amendments: those that it has had.
        trials: all of its trials.
        params_of: every parameter of a trial.
    """
    if spec.confirm is None:
        return None
    found = candidates(trials, spec.direction, spec.confirm.top, params_of)
    if not found:
        return None
    last = max((one.number for one in amendments if not one.only_refit), default=0)
    return Mark(uid=uid, amendments=last, trials=tuple(trial.number for trial in found))


def lineage_of(candidate: int, repeat: int, candidates: int) -> int:
    """The lineage of a repeat in a confirming study: all candidates' first repeats come first."""
    return repeat * candidates + candidate


def read_marks(storage: Storage) -> list[Marked]:
    """Every study of a storage, with its mark where it confirms another; the oldest first."""
    return storage.read(lambda session: marked_studies(session, attributes.CONFIRMS))


def confirmations(storage: Storage, uid: str) -> list[Marked]:
    """The studies that confirm the one with this uid or did before it changed; oldest first."""
    return [one for one in read_marks(storage) if one.mark and one.mark["uid"] == uid]


def confirming_ledgers(storage: Storage, uid: str) -> list[Ledger]:
    """The ledgers of the studies that confirm the one with this uid, or did before it changed."""
    return [Ledger.open(storage, one.name) for one in confirmations(storage, uid)]


def find_confirmation(
    storage: Storage, spec: StudySpec, mark: Mark | None, trials: Sequence[FrozenTrial]
) -> Confirmation | None:
    """What came of the study with this mark; None where there is none yet.

    Args:
        spec: the present one of the study that is confirmed.
        trials: of that study.
    """
    if mark is None or spec.confirm is None:
        return None
    wanted = mark.to_json()
    named = next((one for one in confirmations(storage, mark.uid) if one.mark == wanted), None)
    if named is None:
        return None
    counts = Ledger.open(storage, named.name).counts()
    repeated = storage.optuna.get_all_trials(named.study_id, deepcopy=False)
    searched = {trial.number: trial.values[0] for trial in trials if trial.values}
    count, repeats = len(mark.trials), counts.total // len(mark.trials)
    return Confirmation(
        study=named.name,
        metric=spec.metric,
        direction=spec.direction,
        reshuffled=spec.confirm.reshuffled,
        candidates=tuple(
            Candidate(
                trial=number,
                searched=searched[number],
                values=tuple(
                    repeat_values(repeated, [lineage_of(n, r, count) for r in range(repeats)])
                ),
            )
            for n, number in enumerate(mark.trials)
        ),
        trials=counts.total,
        ended=counts.done,
    )
