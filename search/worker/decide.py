"""Which paused trial goes on: a worker's decisions in a study of freeze-thaw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from search.ledger import Choice, Row
from search.ledger.decisions import Decisions
from search.sampling.freeze_thaw import Curve, Decision, Left
from search.spec import StudySpec
from search.study import Study, stop_rules
from search.study.pausing import curves, steps_under_way
from search.text import counted

__all__ = ["Decider", "Idle", "Made"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A decision that is not carried out yet.

    Attributes:
        number: how many were carried out before it.
        row: the paused lineage that goes on, as it was; None where a new one begins.
        last_step: of that lineage, or of the new one.
        amendment: the number of the last one when it was made.
    """

    number: int
    decision: Decision
    row: Row | None
    last_step: int
    amendment: int

    @property
    def choice(self) -> Choice:
        """What the ledger needs to carry it out."""
        until = self.decision.until
        return Choice(
            number=self.number,
            pause_at=until if until < self.last_step else None,
            record=self.record,
        )

    @property
    def record(self) -> dict[str, Any]:
        """What is stored of it with the trial."""
        shown = asdict(self.decision)
        del shown["params"], shown["lineage"]
        return {"number": self.number, **shown}


@dataclass(frozen=True, kw_only=True)
class Idle:
    """That nothing is worth beginning or continuing.

    Attributes:
        decision: how many decisions were carried out before that was found.
        amendment: the number of the last one then.
        over: the rule and the words by which the search is over; None while it may go on, as
            something runs or was interrupted, or nothing is left of it.
    """

    decision: int
    amendment: int
    over: tuple[str, str] | None


class Decider:
    """Makes the decisions that this worker needs, from what is stored alone."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._decisions = Decisions(study.ledger)

    def decide(self, asks: int | None = None) -> Made | Idle:
        """The next decision.

        Args:
            asks: the lineage that this worker runs, and that is due to pause: it may go on.
        """
        study = self._study
        # Before all other reads: what changes by another decision after it makes this one void.
        number = self._decisions.count()
        spec, amendment = study.spec, len(study.amendments)
        see = study.specs.since(amendment)
        rows = study.ledger.rows(begun=True)
        trials = {trial.number: trial for trial in study.trials}
        known = curves(spec, rows, trials, asks=asks, see=see)
        under_way = steps_under_way(
            rows, trials, lambda trial: study.last_step(study.params(trial)), asks=asks
        )
        unspent = stop_rules.left(study.ledger, spec, under_way)
        from search.sampling.freeze_thaw.decision import decide

        def decided(left: Left) -> Decision | None:
            return decide(
                spec.space,
                spec.fixed,
                known,
                direction=spec.direction,
                seed=spec.decision_seed(number),
                may_begin=len(rows) < spec.trials,
                last_step_of=lambda params: study.last_step({**spec.fixed, **params}),
                left=left,
            )

        decision = decided(unspent)
        if decision is None:
            over = _over(spec, rows, known, unspent, decided)
            return Idle(decision=number, amendment=amendment, over=over)
        if decision.lineage is None:
            last_step = study.last_step({**spec.fixed, **decision.params})
            return Made(
                number=number,
                decision=decision,
                row=None,
                last_step=last_step,
                amendment=amendment,
            )
        (row,) = (row for row in rows if row.lineage == decision.lineage)
        (curve,) = (curve for curve in known if curve.lineage == decision.lineage)
        return Made(
            number=number,
            decision=decision,
            row=row,
            last_step=curve.last_step,
            amendment=amendment,
        )


def _over(
    spec: StudySpec,
    rows: Sequence[Row],
    known: Sequence[Curve],
    unspent: Left,
    decided: Callable[[Left], Decision | None],
) -> tuple[str, str] | None:
    """Why a search is over in which nothing is worth doing; None where it is not.

    Args:
        rows: of all lineages that have begun.
        known: of those, the curves that lie in the present space.
        unspent: of the budget.
        decided: what would be decided with so much left.
    """
    if any(not row.done and not row.paused for row in rows):
        return None  # it may still come to its end
    if len(rows) < spec.trials or any(curve.state == "paused" for curve in known):
        by_hours = spec.steps is None
        if spec.hours is not None and spec.steps is not None:
            by_hours = decided(replace(unspent, seconds=math.inf)) is not None
        return "hours" if by_hours else "steps", stop_rules.out_of_reach(spec, unspent)
    if any(row.paused for row in rows):
        begun = f"all {counted(spec.trials, 'trial')} have begun"
        return "trials", f"{begun}, and the paused ones lie outside the amended space"
    return None
