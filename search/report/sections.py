"""The sections of a report that tell of one study, with their figures."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.report import facts, steps
from search.report.draw_curves import draw_curves, draw_named
from search.report.draw_parameters import (
    BARS_SHOWN,
    PARAMS_SHOWN,
    draw_importances,
    draw_parallel,
    draw_slices,
)
from search.report.draw_search import draw_audit, draw_history, draw_timeline
from search.report.draw_steps import (
    draw_agreement,
    draw_expectations,
    draw_pauses,
    draw_regret,
)
from search.report.front.draw import draw_front
from search.report.front.text import CAPTION, front_table
from search.report.page import Bullets, Drawing, Paragraph, Part, Section, Table
from search.report.study_report import StudyReport, called
from search.report.trial_table import TRIAL_HEAD, trial_rows
from search.text import counted

__all__ = ["make_sections"]

PRUNED_SHOWN = 12  # curves of pruned trials
BEST_SHOWN = 4  # curves of the best
ROWS_SHOWN = 200  # of the table of trials


def make_sections(report: StudyReport, *, level: int = 2) -> list[Section]:
    """Everything but the summary; a section without content is left out.

    Args:
        level: of the headings.
    """
    name = report.study.name
    made = [
        Section(title=f"{name}: configuration", parts=_configuration(report), level=level),
        Section(title=f"{name}: how the trials ended", parts=_endings(report), level=level),
        Section(title=f"{name}: the search", parts=_search(report), level=level),
        Section(title=f"{name}: steps", parts=_steps(report), level=level),
        Section(title=f"{name}: parameters", parts=_parameters(report), level=level),
        Section(title=f"{name}: trials", parts=_table(report), level=level),
    ]
    return [section for section in made if section.parts]


def _configuration(report: StudyReport) -> list[Part]:
    best = report.chosen
    if report.front:
        return front_table(report.study.spec, report.front)
    if best is None:
        return []
    rows = [(k, _text(v)) for k, v in report.study.params(best).items()]
    arm = " It was drawn by the control." if facts.is_control(best) else ""
    return [
        Paragraph(
            text=f"The best configuration is that of trial {best.number}{called(best)}.{arm}"
        ),
        Table(head=("parameter", "value"), rows=rows),
        *_confirmation(report),
    ]


def _confirmation(report: StudyReport) -> list[Part]:
    """What each of the best trials had in the search, and when it was trained again."""
    found, metric = report.confirmation, report.metric
    if found is None:
        return []

    def show(value: float | None) -> str:
        return "" if value is None else metric.show(value)

    repeats = [f"repeat {n}" for n in range(found.repeats)]
    return [
        Paragraph(
            text="The best trials were trained again; those of one repeat share its seed"
            + (" and its split" if found.reshuffled else "")
            + f". The repeats are the study {found.study}."
        ),
        Table(
            head=("trial", "in the search", "mean of the repeats", *repeats),
            rows=[
                (str(one.trial), show(one.searched), show(one.mean), *map(show, one.values))
                for one in found.candidates
            ],
        ),
    ]


def _endings(report: StudyReport) -> list[Part]:
    ended, used = facts.endings(report.trials, report.attempts, report.waiting), report.compute
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
        Bullets(lines=report.checks()),
    ]


def _search(report: StudyReport) -> list[Part]:
    name, metric = report.study.name, report.metric
    parts: list[Part] = []
    if report.front:
        drawn = draw_front(report.study.trials, report.front, report.metrics, f"{name}: the front")
        parts.append(Drawing(name=f"{name}-front", figure=drawn, caption=CAPTION))
    points = facts.history(report.trials, report.worked)
    if points:
        parts.append(
            Drawing(
                name=f"{name}-history",
                figure=draw_history(points, metric, f"{name}: optimisation history"),
                caption="Each trial's value over trials and over time. The lines are the best "
                "value so far; a pruned trial's value is the last it reported.",
            )
        )
    folds = report.study.spec.folds is not None
    step, curves = ("fold", "fold by fold") if folds else ("step", "learning curves")
    named = [
        t
        for t in facts.last_attempts(report.trials, report.waiting)
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
    best = report.ranked[: 1 + BEST_SHOWN]
    pruned = [t for t in report.trials if t.state is TrialState.PRUNED and t.intermediate_values]
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
                caption=_drawn_curves(len(best), len(pruned)),
            )
        )
    rival = report.best_unaudited
    ran = [one for one in facts.audited(report.trials, report.waiting) if one.final is not None]
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
    spans = facts.spans(report.attempts, now=datetime.now(UTC))
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


def _steps(report: StudyReport) -> list[Part]:
    name, metric, best = report.study.name, report.metric, report.best
    parts: list[Part] = []
    regrets = steps.regrets(report.points, metric.direction)
    if len(regrets) == 2:
        parts.append(
            Drawing(
                name=f"{name}-regret",
                figure=draw_regret(regrets, metric, f"{name}: regret"),
                caption="How far the best complete trial was behind the best value of both arms, "
                "over the training that the search and its control each had spent.",
            )
        )
    ran = steps.stretches(report.trials)
    if ran:
        parts.append(
            Drawing(
                name=f"{name}-pauses",
                figure=draw_pauses(
                    ran,
                    report.trials,
                    None if best is None else best.number,
                    metric,
                    f"{name}: what paused, and what went on",
                ),
                caption="Left: each bar is a stretch of steps between two decisions. A trial with "
                "many bars was chosen again and again. Right: the same trials' curves, with a dot "
                "where a stretch ended.",
            )
        )
    expected = [] if best is None else steps.expectations(best)
    if best is not None and expected:
        parts.append(
            Drawing(
                name=f"{name}-expected",
                figure=draw_expectations(
                    best, expected, metric, f"{name}: what was expected of the best"
                ),
                caption="Each square is what the model expected of the best trial, at the step it "
                "looked at, when it let the trial begin or go on.",
            )
        )
    agreement, count = steps.agreement(report.trials)
    if len(agreement) > 1:
        parts.append(
            Drawing(
                name=f"{name}-agreement",
                figure=draw_agreement(agreement, f"{name}: how early a step tells"),
                caption=f"Spearman's rank correlation of each step's values with the last, of "
                f"{count} complete trials. Trials that were pruned or paused for good are not in "
                "it, so it is of good trials more than of all.",
            )
        )
    return parts


def _parameters(report: StudyReport) -> list[Part]:
    if not report.study.spec.space.parameters:
        return []  # named configurations differ in many things at once
    name, metric = report.study.name, report.metric
    parts: list[Part] = []
    shares = facts.importances(report.study.optuna, report.trials)
    valued = [
        trial
        for trial in facts.last_attempts(report.trials, report.waiting)
        if trial.value is not None
    ]
    params = _varied(valued, shares)
    if shares:
        unknown = [name for name in params if name not in shares]
        parts.append(
            Drawing(
                name=f"{name}-importances",
                figure=draw_importances(shares, unknown, f"{name}: parameter importances"),
                caption="PED-ANOVA, over the complete trials; of few trials it is a hint."
                + _left_out([*shares, *unknown], BARS_SHOWN),
            )
        )
    if not params:
        return parts
    parts.append(
        Drawing(
            name=f"{name}-slices",
            figure=draw_slices(valued, params, metric, f"{name}: value over parameters"),
            caption="Each parameter alone; a trial without the parameter is not shown."
            + _left_out(params, PARAMS_SHOWN),
        )
    )
    complete = report.ranked
    if len(complete) > 1:
        parts.append(
            Drawing(
                name=f"{name}-parallel",
                figure=draw_parallel(
                    complete, params, metric, f"{name}: complete trials, all parameters"
                ),
                caption="One line per complete trial, dotted across a parameter that the "
                "trial does not have." + _left_out(params, PARAMS_SHOWN),
            )
        )
    return parts


def _table(report: StudyReport) -> list[Part]:
    """The trials that ended with a value, the best first; a trial that runs on is not shown."""
    rows = trial_rows(report.trials, report.waiting, report.metric, report.worked)
    if not rows:
        return []
    shown = f"the best {ROWS_SHOWN} of {len(rows)}" if len(rows) > ROWS_SHOWN else "all"
    return [
        Paragraph(text=f"The trials that ended with a value, the best first; {shown}."),
        Table(head=TRIAL_HEAD, rows=rows[:ROWS_SHOWN]),
    ]


def _varied(trials: Sequence[FrozenTrial], shares: Mapping[str, float]) -> list[str]:
    """Parameters that differ among complete trials: the important first, then as declared."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    names = dict.fromkeys([*shares, *(name for trial in trials for name in trial.params)])
    return [
        name
        for name in names
        if any(name in trial.params for trial in complete)
        and len({trial.params[name] for trial in trials if name in trial.params}) > 1
    ]


def _left_out(params: Sequence[str], most: int) -> str:
    more = len(params) - most
    if more <= 0:
        return ""
    return f" {counted(more, 'further parameter')} {'is' if more == 1 else 'are'} left out."


def _drawn_curves(best: int, pruned: int) -> str:
    """Whose curves a figure shows, of so many best trials and so many pruned ones."""
    parts = ["the best trial"] if best else []
    if best > 1:
        parts.append("the next one" if best == 2 else f"the next {best - 1}")
    if pruned:
        parts.append(f"{min(pruned, PRUNED_SHOWN)} of {counted(pruned, 'pruned trial')}")
    text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{text[0].upper()}{text[1:]}{'' if pruned else '; no trial was pruned'}."


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
