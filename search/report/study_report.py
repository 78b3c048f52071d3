"""What a report says of one study, from its storage alone."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.aims.confirmed import Confirmation, sentences
from search.ledger.records import Attempt
from search.outcome import best_of, front_of, is_feasible
from search.report import control, facts
from search.report.axes import Metric
from search.report.front import text as front_text
from search.study import Study
from search.study.rows import worked_seconds
from search.study.views.events import events
from search.text import clock, counted

__all__ = ["StudyReport"]


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """One study, read once.

    Attributes:
        trials: of a study with two metrics with the first value alone, see `front` for both.
        front: with two metrics, the trials that no other betters in both.
        planned_steps: from a trial's parameters to the steps it would run unpruned, where they
            tell; used to say what pruning spared.
        attempts: of all lineages.
        waiting: lineages that are not done.
    """

    study: Study
    trials: Sequence[FrozenTrial]
    attempts: Sequence[Attempt]
    planned_steps: Callable[[Mapping[str, Any]], int | None]
    waiting: Collection[int] = ()
    front: Sequence[FrozenTrial] = ()

    @classmethod
    def of(
        cls, study: Study, planned_steps: Callable[[Mapping[str, Any]], int | None]
    ) -> "StudyReport":
        """Read a study's trials."""
        waiting = {row.lineage for row in study.ledger.rows() if not row.done}
        trials, two = study.trials, len(study.spec.aims) > 1
        return cls(
            study=study,
            trials=[facts.of_first_metric(trial) for trial in trials] if two else trials,
            front=front_of(trials, study.spec.directions) if two else (),
            attempts=study.ledger.attempts(),
            planned_steps=planned_steps,
            waiting=waiting,
        )

    @cached_property
    def worked(self) -> Mapping[int, float]:
        """Seconds of work on each trial, by its number."""
        return worked_seconds(self.attempts)

    @property
    def metric(self) -> Metric:
        spec = self.study.spec
        return Metric(name=spec.metric, direction=spec.direction, percent=self.study.percent)

    @property
    def metrics(self) -> list[Metric]:
        """Every metric that the study aims at."""
        return [
            Metric(name=aim.name, direction=aim.direction, percent=self.study.percent)
            for aim in self.study.spec.aims
        ]

    @property
    def best(self) -> FrozenTrial | None:
        """The best feasible trial; None with two metrics."""
        if len(self.study.spec.aims) > 1:
            return None
        return best_of(self.trials, self.study.spec.direction)

    @cached_property
    def confirmation(self) -> Confirmation | None:
        """What came of training the best trials again; None where that has not begun."""
        return self.study.confirmation

    @property
    def chosen(self) -> FrozenTrial | None:
        """The confirmed winner; the best trial of the search where none is confirmed."""
        found = self.confirmation
        if found is None or found.winner is None:
            return self.best
        return self.study.trial(found.winner.trial)

    def summary(self) -> list[str]:
        """What was searched and what came out: a line each."""
        spec, metric, best = self.study.spec, self.metric, self.best
        ended, used = facts.endings(self.trials, self.attempts, self.waiting), self.compute
        if spec.space.parameters:
            searched = counted(len(spec.space.parameters), "parameter")
            proposed = f", proposed by {spec.sampler.name}"
        else:
            searched, proposed = counted(len(spec.named), "named configuration"), ""
        pruner = spec.pruner.name
        pruned = "not pruned" if pruner == "none" else f"pruned by {pruner}"
        if self.study.pauses:
            pruned = "which paused trials and let the promising ones go on"
        spared = (
            f"; pruning spared {clock(used.saved_seconds)} ({100 * used.saved_share:.0f} % of what "
            "all trials run to their end would have taken"
            + (", estimated from the complete ones)" if used.estimated else ")")
        )
        lines = [
            f"Searched: {searched}, {ended.total} of {spec.trials} trials ended{proposed}, "
            f"{pruned}.",
            "How they ended: "
            + (
                ", ".join(f"{count} {word}" for word, count in sorted(ended.by_word.items()))
                or "none has ended yet"
            )
            + (
                f"; {ended.lost_attempts} attempts whose worker died went on elsewhere"
                if ended.lost_attempts
                else ""
            )
            + ".",
            f"Compute: {clock(used.seconds)} of training in "
            f"{clock(self.study.ledger.elapsed())} of wall-clock time"
            f"{'' if pruner == 'none' else spared}.",
            *events(self.study),
            *front_text.constraint_lines(spec, self.trials),
        ]
        if len(spec.aims) > 1:
            lines.insert(1, front_text.summary_line(spec, self.front))
        elif best is not None:
            lines.insert(
                1,
                f"Best: trial {best.number}{called(best)} with {metric.words} "
                f"{metric.show(best.value or 0.0)}.",
            )
        else:
            what = "keeps the constraints" if spec.constraints else "is complete"
            lines.insert(1, f"Best: no trial {what} yet.")
        if self.confirmation is not None:
            lines[2:2] = sentences(self.confirmation, percent=metric.unit == 100)
        return [*lines, *self.checks()]

    def checks(self) -> list[str]:
        """The results of the control (of the sampler) and of the audit (of the pruner)."""
        lines: list[str] = []
        spec = self.study.spec
        if len(spec.aims) > 1:  # both compare trials by one value
            return lines
        if spec.space.parameters and spec.sampler.name not in ("random", "grid"):
            lines.append(self.control_line())
        if spec.pruner.name != "none" or self.study.pauses:
            lines.append(self.audit_line())
        return lines

    def control_line(self) -> str:
        """How much training the sampler saved against random search."""
        found = self._comparison()
        if not self.study.spec.control:
            return "Control: the study has none, so the sampler is not compared with random search."
        if found is None:
            return "Control: too few of its trials have ended to compare."
        reached = self.metric.show(found.value)
        if found.ratio is None:
            return (
                f"Control: random search ({found.control_trials} trials) reached {reached}, "
                "which the study did not reach."
            )
        low = f"{found.low:.1f}" if found.low > 0 else "not reached"
        return (
            f"Control: the study reached {reached} with {found.ratio:.1f} times less training than "
            f"random search ({found.control_trials} trials; 95 % interval {low} to "
            f"{found.high:.1f} from resampling them)."
        )

    def audit_line(self) -> str:
        """How often the pruner was wrong, and by how much; or what was never let go on."""
        judge = "Freeze-thaw" if self.study.pauses else "Pruner"
        if not self.study.spec.audit:
            return f"{judge}: not audited, so it is unknown whether it ended good trials."
        ran = [one for one in facts.audited(self.trials, self.waiting) if one.final is not None]
        rival = self.best_unaudited
        if not ran or rival is None:
            return f"{judge}: no audited trial has run to its end yet."
        sign = 1 if self.metric.direction == "maximize" else -1
        gains = [sign * (float(one.final or 0.0) - float(rival.value or 0.0)) for one in ran]
        wrong = sum(gain > 0 for gain in gains)
        from scipy.stats import binomtest

        low, high = binomtest(wrong, len(ran)).proportion_ci(method="wilson")
        text = (
            f"{judge}: of {counted(len(ran), 'pruned trial')} that ran on for the audit, {wrong} "
            f"ended better than the best other trial (95 % interval {100 * low:.0f} to "
            f"{100 * high:.0f} %)"
        )
        size = self.metric.show_difference(abs(max(gains)))
        if wrong:
            return f"{text}, by at most {size}."
        return f"{text}; the nearest stayed {size} behind."

    @cached_property
    def ranked(self) -> list[FrozenTrial]:
        """The complete feasible trials, the best first."""
        sign = -1 if self.metric.direction == "maximize" else 1
        complete = [t for t in self.trials if t.state is TrialState.COMPLETE and is_feasible(t)]
        return sorted(complete, key=lambda t: (sign * float(t.value or 0.0), t.number))

    @property
    def best_unaudited(self) -> FrozenTrial | None:
        """The best among the trials that did not run on for the audit."""
        return best_of(
            [t for t in self.trials if attributes.AUDIT not in t.user_attrs],
            self.study.spec.direction,
        )

    @cached_property
    def compute(self) -> facts.Compute:
        """What was trained, and what pruning spared."""
        spec = self.study.spec
        planned = self.planned_steps if spec.folds is None else lambda params: spec.folds
        return facts.compute(self.trials, self.study.params, planned, self.waiting, self.worked)

    @cached_property
    def points(self) -> Sequence[facts.Point]:
        """The trials in their order, those of the audit as the pruned ones that they would be."""
        return facts.history(self.trials, self.worked, as_pruned=True)

    def _comparison(self) -> control.Comparison | None:
        return control.compare(self.points, self.study.spec.direction)


def called(trial: FrozenTrial) -> str:
    return f" ({trial.user_attrs[attributes.NAME]})" if attributes.NAME in trial.user_attrs else ""
