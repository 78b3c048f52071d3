"""What a report says of one study, from its storage alone."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.ledger.records import Attempt
from search.report import control, facts
from search.report.axes import Metric
from search.report.draw_curves import draw_curves, draw_named
from search.report.draw_parameters import (
    PARAMS_SHOWN,
    draw_importances,
    draw_parallel,
    draw_slices,
)
from search.report.draw_search import draw_audit, draw_history, draw_timeline
from search.report.page import Bullets, Drawing, Paragraph, Part, Section, Table
from search.report.trial_table import TRIAL_HEAD, trial_rows
from search.study import Study
from search.study.rows import worked_seconds
from search.study.status import best_of
from search.text import clock, counted

__all__ = ["StudyReport"]

PRUNED_SHOWN = 12  # curves of pruned trials
BEST_SHOWN = 4  # curves of the best
ROWS_SHOWN = 200  # of the table of trials


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """One study, read once.

    Attributes:
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

    @classmethod
    def of(
        cls, study: Study, planned_steps: Callable[[Mapping[str, Any]], int | None]
    ) -> "StudyReport":
        """Read a study's trials."""
        waiting = {row.lineage for row in study.ledger.rows() if not row.done}
        return cls(
            study=study,
            trials=study.trials,
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
    def best(self) -> FrozenTrial | None:
        return best_of(self.trials, self.study.spec.direction)

    def summary(self) -> list[str]:
        """What was searched and what came out: a line each."""
        spec, metric, best = self.study.spec, self.metric, self.best
        ended, used = facts.endings(self.trials, self.attempts, self.waiting), self._compute()
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
            + ", ".join(f"{count} {word}" for word, count in sorted(ended.by_word.items()))
            + (
                f"; {ended.lost_attempts} attempts whose worker died went on elsewhere"
                if ended.lost_attempts
                else ""
            )
            + ".",
            f"Compute: {clock(used.seconds)} of training in "
            f"{clock(self.study.ledger.elapsed())} of wall-clock time"
            f"{'' if pruner == 'none' else spared}.",
            *(f"The study was amended: {one}." for one in self.study.amendments),
        ]
        if best is not None:
            lines.insert(
                1,
                f"Best: trial {best.number}{_called(best)} with {metric.words} "
                f"{metric.show(best.value or 0.0)}.",
            )
        else:
            lines.insert(1, "Best: no trial is complete yet.")
        return [*lines, *self.checks()]

    def checks(self) -> list[str]:
        """The results of the control (of the sampler) and of the audit (of the pruner)."""
        lines, spec = [], self.study.spec
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
        rival = self._best_unaudited()
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

    def sections(self, *, level: int = 2) -> list[Section]:
        """Everything else, with its figures."""
        name = self.study.name
        made = [
            Section(title=f"{name}: configuration", parts=self._configuration(), level=level),
            Section(title=f"{name}: how the trials ended", parts=self._endings(), level=level),
            Section(title=f"{name}: the search", parts=self._search(), level=level),
            Section(title=f"{name}: parameters", parts=self._parameters(), level=level),
            Section(title=f"{name}: trials", parts=self._table(), level=level),
        ]
        return [section for section in made if section.parts]

    def _configuration(self) -> list[Part]:
        best = self.best
        if best is None:
            return []
        rows = [(k, _text(v)) for k, v in self.study.params(best).items()]
        arm = " It was drawn by the control." if facts.is_control(best) else ""
        return [
            Paragraph(
                text=f"The best configuration is that of trial {best.number}{_called(best)}.{arm}"
            ),
            Table(head=("parameter", "value"), rows=rows),
        ]

    def _endings(self) -> list[Part]:
        ended, used = facts.endings(self.trials, self.attempts, self.waiting), self._compute()
        rows = [(word, str(count)) for word, count in sorted(ended.by_word.items())]
        rows += [
            ("of these in the control", str(ended.control)),
            ("of these audited", str(ended.audited)),
            ("attempts whose worker died", str(ended.lost_attempts)),
            ("attempts that were stopped", str(ended.stopped_attempts)),
            ("steps run", f"{used.steps:,}"),
            ("steps spared by pruning", f"{used.saved_steps:,}"),
        ]
        return [
            Table(head=("trials", "count"), rows=rows),
            Bullets(lines=self.checks()),
        ]

    def _search(self) -> list[Part]:
        name, metric = self.study.name, self.metric
        parts: list[Part] = []
        points = facts.history(self.trials, self.worked)
        if points:
            parts.append(
                Drawing(
                    name=f"{name}-history",
                    figure=draw_history(points, metric, f"{name}: optimisation history"),
                    caption="Each trial's value over trials and over time. The lines are the best "
                    "value so far; a pruned trial's value is the last it reported.",
                )
            )
        folds = self.study.spec.folds is not None
        step, curves = ("fold", "fold by fold") if folds else ("step", "learning curves")
        named = [
            t
            for t in facts.last_attempts(self.trials, self.waiting)
            if attributes.NAME in t.user_attrs
        ]
        title = f"{name}: the named trials"
        compared = draw_named(named, metric, title, step=step) if named else None
        if compared is not None:
            parts.append(
                Drawing(
                    name=f"{name}-named",
                    figure=compared,
                    caption="The trials that the study file names, step by step: dashed on the "
                    "training data, as it is learnt; solid on the validation data.",
                )
            )
        best = self._ranked()[: 1 + BEST_SHOWN]
        pruned = [t for t in self.trials if t.state is TrialState.PRUNED and t.intermediate_values]
        stride = max(1, len(pruned) // PRUNED_SHOWN)
        if best or pruned:
            parts.append(
                Drawing(
                    name=f"{name}-curves",
                    figure=draw_curves(
                        best,
                        pruned[::stride][:PRUNED_SHOWN],
                        metric,
                        f"{name}: {curves}",
                        step=step,
                    ),
                    caption=f"The best trial, the next {max(0, len(best) - 1)}"
                    + (
                        f", and {min(len(pruned), PRUNED_SHOWN)} of {len(pruned)} pruned ones."
                        if pruned
                        else "; no trial was pruned."
                    ),
                )
            )
        rival = self._best_unaudited()
        ran = [one for one in facts.audited(self.trials, self.waiting) if one.final is not None]
        if ran and rival is not None:
            parts.append(
                Drawing(
                    name=f"{name}-audit",
                    figure=draw_audit(
                        ran, float(rival.value or 0.0), metric, f"{name}: the pruner's audit"
                    ),
                    caption="Trials that ran on though the pruner would have ended them. A dot "
                    "beyond the dashed line is a trial that pruning would have cost.",
                )
            )
        spans = facts.spans(self.attempts, now=datetime.now(UTC))
        if spans:
            parts.append(
                Drawing(
                    name=f"{name}-timeline",
                    figure=draw_timeline(spans, f"{name}: who worked on what"),
                    caption="One bar per attempt at a trial. A trial whose worker died, or was "
                    "stopped, goes on in a later bar.",
                )
            )
        return parts

    def _parameters(self) -> list[Part]:
        if not self.study.spec.space.parameters:
            return []  # named configurations differ in many things at once
        name, metric = self.study.name, self.metric
        parts: list[Part] = []
        shares = facts.importances(self.study.optuna, self.trials)
        valued = [
            trial
            for trial in facts.last_attempts(self.trials, self.waiting)
            if trial.value is not None
        ]
        params = self._varied(valued, shares)
        if shares:
            unknown = [name for name in params if name not in shares]
            parts.append(
                Drawing(
                    name=f"{name}-importances",
                    figure=draw_importances(shares, unknown, f"{name}: parameter importances"),
                    caption="PED-ANOVA, over the complete trials; of few trials it is a hint.",
                )
            )
        if not params:
            return parts
        parts.append(
            Drawing(
                name=f"{name}-slices",
                figure=draw_slices(valued, params, metric, f"{name}: value over parameters"),
                caption="Each parameter alone; a trial without the parameter is not shown."
                + _left_out(params),
            )
        )
        complete = self._ranked()
        if len(complete) > 1:
            parts.append(
                Drawing(
                    name=f"{name}-parallel",
                    figure=draw_parallel(
                        complete, params, metric, f"{name}: complete trials, all parameters"
                    ),
                    caption="One line per complete trial, dotted across a parameter that the "
                    "trial does not have." + _left_out(params),
                )
            )
        return parts

    def _table(self) -> list[Part]:
        """The trials that ended with a value, the best first; a trial that runs on is not shown."""
        rows = trial_rows(self.trials, self.waiting, self.metric, self.worked)
        if not rows:
            return []
        shown = f"the best {ROWS_SHOWN} of {len(rows)}" if len(rows) > ROWS_SHOWN else "all"
        return [
            Paragraph(text=f"The trials that ended with a value, the best first; {shown}."),
            Table(head=TRIAL_HEAD, rows=rows[:ROWS_SHOWN]),
        ]

    def _varied(self, trials: Sequence[FrozenTrial], shares: Mapping[str, float]) -> list[str]:
        """Parameters that differ among complete trials: the important first, then as declared."""
        complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        names = dict.fromkeys([*shares, *(name for trial in trials for name in trial.params)])
        return [
            name
            for name in names
            if any(name in trial.params for trial in complete)
            and len({trial.params[name] for trial in trials if name in trial.params}) > 1
        ]

    def _ranked(self) -> list[FrozenTrial]:
        sign = -1 if self.metric.direction == "maximize" else 1
        complete = [t for t in self.trials if t.state is TrialState.COMPLETE]
        return sorted(complete, key=lambda t: (sign * float(t.value or 0.0), t.number))

    def _best_unaudited(self) -> FrozenTrial | None:
        return best_of(
            [t for t in self.trials if attributes.AUDIT not in t.user_attrs],
            self.study.spec.direction,
        )

    def _compute(self) -> facts.Compute:
        spec = self.study.spec
        planned = self.planned_steps if spec.folds is None else lambda params: spec.folds
        return facts.compute(self.trials, self.study.params, planned, self.waiting, self.worked)

    def _comparison(self) -> control.Comparison | None:
        points = facts.history(self.trials, self.worked, as_pruned=True)
        return control.compare(points, self.study.spec.direction)


def _called(trial: FrozenTrial) -> str:
    return f" ({trial.user_attrs[attributes.NAME]})" if attributes.NAME in trial.user_attrs else ""


def _left_out(params: Sequence[str]) -> str:
    more = len(params) - PARAMS_SHOWN
    return f" {more} further parameters are left out." if more > 0 else ""


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
