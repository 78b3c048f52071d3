"""How a worker comes to its trials: claims, and in a study of freeze-thaw decisions."""

import math
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.ledger import Choice, Claim, Standing
from search.ledger.attempt import Fresh
from search.ledger.decisions import Decisions
from search.sampling.freeze_thaw import grid
from search.sampling.freeze_thaw.encoding import completed
from search.study import Study
from search.study.load_problem import labels_of
from search.worker.decide import Decider, Idle, Made

__all__ = ["Claims"]


class Claims:
    """The claims of one worker.

    Args:
        name: of the worker; no other process has it.
    """

    def __init__(self, study: Study, name: str) -> None:
        self._study = study
        self._name = name
        self._origin = {
            attributes.ENVIRONMENT: labels_of(study.problem, study.spec.problem, "environment"),
            attributes.WORKER: name,
        }
        self._decider = Decider(study) if study.pauses else None

    def next(self, stop: threading.Event) -> Claim | None:
        """The next trial of this worker; None when there is none now.

        What was interrupted comes first. Then begins, in the order of lineages, what needs no
        decision: without freeze-thaw all of them, with it named trials and the control. Once the
        hours or steps of the budget are used up, only what was interrupted goes on.

        Args:
            stop: ends the attempts to have a decision carried out.
        """
        ledger = self._study.ledger
        while True:
            used_up = self._study.used_up()
            fresh: Callable[[int], Fresh | None] = (lambda _: None) if used_up else self._fresh
            claim = ledger.claim(self._name, fresh, origin=self._origin)
            if claim is not None or self._decider is None:
                return claim
            Decisions(ledger).end_elsewhere()
            if used_up:
                return None
            made = self._decider.decide()
            if isinstance(made, Idle):
                self._end_early(made)
                return None
            claim = self._carry_out(made)
            if claim is not None:
                return claim
            if stop.is_set() or not _may_start(ledger.standing()):
                return None
            self._study.refresh()  # an amendment may have made the decision void

    def _end_early(self, idle: Idle) -> None:
        """End the search where nothing more can be completed."""
        if idle.over is None:
            return
        study, (rule, text) = self._study, idle.over
        best = study.status().best
        Decisions(study.ledger).end_early(
            rule,
            None if best is None else best.number,
            text,
            amendment=idle.amendment,
            decision=idle.decision,
        )

    def _carry_out(self, made: Made) -> Claim | None:
        """The trial that a decision begins or lets go on; None when the decision is void."""
        if made.row is None:
            fresh = partial(self._fresh, made=made)
            return self._study.ledger.claim(self._name, fresh, origin=self._origin)
        decisions = Decisions(self._study.ledger)
        return decisions.claim(self._name, made.row, made.choice, origin=self._origin)

    def _fresh(self, lineage: int, made: Made | None = None) -> Fresh | None:
        """What a lineage begins with; None where it takes a decision that there is not."""
        spec = self._study.spec
        amendment = len(self._study.amendments)
        attrs: dict[str, Any] = {attributes.DATA: dict(self._study.fingerprint)}
        assigned = spec.assigned(lineage)
        if assigned is not None and assigned.name is not None:
            attrs[attributes.NAME] = assigned.name
        if spec.is_control(lineage):
            attrs[attributes.ARM] = attributes.CONTROL
            return Fresh(user_attrs=attrs, amendment=amendment)
        if self._decider is None:
            params = assigned.params if assigned else {}
            return Fresh(params=params, user_attrs=attrs, amendment=amendment)
        if assigned is not None:
            seed = spec.trial_seed(lineage)
            params = completed(spec.space, spec.fixed, assigned.params, seed=seed)
            last_step = self._study.last_step({**spec.fixed, **params})
            first = grid(last_step)[0]
            return Fresh(
                params=params,
                user_attrs={attributes.LAST_STEP: last_step, **attrs},
                pause_at=first if first < last_step else None,
                amendment=amendment,
            )
        if made is None:
            return None
        attrs |= {attributes.LAST_STEP: made.last_step, attributes.DECISIONS: [made.record]}
        return Fresh(
            params=made.decision.params,
            user_attrs=attrs,
            pause_at=made.choice.pause_at,
            decision=made.number,
            amendment=made.amendment,
        )

    def go_on(self, claim: Claim) -> Choice | None:
        """What lets a trial of this worker, due to pause, go on in this process; None: it pauses.

        Raises:
            Fenced: the lease is no longer ours.
        """
        study = self._study
        assert self._decider is not None
        while not study.used_up() and _may_start(study.ledger.standing()):
            study.refresh()
            made = self._decider.decide(asks=claim.lease.lineage)
            if isinstance(made, Idle) or made.row is None:
                return None
            if made.row.lineage != claim.lease.lineage:
                return None
            if Decisions(study.ledger).go_on(claim, made.choice):
                return made.choice
        return None

    def end_paused(self, *, by_rule: bool) -> bool:
        """End what is paused, as the budget is used up, but for what the audit lets run on.

        If no trial is complete, the best paused one runs to its last step: a search has a result.
        What still runs may become the best or diverge, so it comes to its pause first.

        Args:
            by_rule: whether a stop rule has ended the study.

        Returns:
            Whether it was done; False where something has to be waited for.
        """
        assert self._decider is not None, "nothing pauses without it"
        study, amendment = self._study, len(self._study.amendments)
        rows = study.ledger.rows(begun=True)
        trials = {
            trial.number: trial
            for trial in study.trials
            if attributes.LINEAGE in trial.user_attrs  # else another program made it
            and trial.user_attrs.get(attributes.ARM) != attributes.CONTROL
        }
        finish = None
        if all(trial.state is not TrialState.COMPLETE for trial in trials.values()):
            if any(not row.done and not row.paused and row.trial in trials for row in rows):
                return False
            finish = self._best(trials.values())
        for lineage in Decisions(study.ledger).end_paused(
            study.spec.is_audited, finish=finish, amendment=amendment, by_rule=by_rule
        ):
            study.checkpoints.delete(lineage)
        return True

    def _best(self, trials: Iterable[FrozenTrial]) -> int | None:
        """The lineage of the running trial with the best last report; None without a report."""
        sign = 1.0 if self._study.spec.direction == "maximize" else -1.0
        reported = [
            (sign * last, trial)
            for trial in trials
            if trial.state is TrialState.RUNNING and trial.intermediate_values
            for last in [trial.intermediate_values[max(trial.intermediate_values)]]
            if math.isfinite(last)
        ]
        if not reported:
            return None
        _, best = max(reported, key=lambda one: (one[0], -one[1].number))
        return int(best.user_attrs[attributes.LINEAGE])


def _may_start(standing: Standing) -> bool:
    return standing.halted is None and standing.held_since is None
