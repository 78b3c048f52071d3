"""What a report says of two metrics and of constraints."""

from collections.abc import Iterator, Sequence

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason
from search.outcome import is_feasible
from search.report.page import Paragraph, Part, Table
from search.spec import StudySpec
from search.text import counted, figure, show_params

__all__ = ["CAPTION", "constraint_lines", "front_table", "summary_line"]

CAPTION = (
    "The complete trials by both metrics. The line joins those that no other trial betters in "
    "both; one that breaks a constraint is none of them."
)


def summary_line(spec: StudySpec, front: Sequence[FrozenTrial]) -> str:
    """How many trials are on the front, and its two ends."""
    if not front:
        return "Front: no trial to choose yet."
    first, last = (f"trial {t.number} ({_values(spec, t)})" for t in (front[0], front[-1]))
    if len(front) == 1:
        return f"Front: {first}, which no other trial betters in either metric."
    return (
        f"Front: {len(front)} trials that no other betters in both {' and '.join(spec.metrics)}, "
        f"from {first} to {last}."
    )


def constraint_lines(spec: StudySpec, trials: Sequence[FrozenTrial]) -> Iterator[str]:
    """Which constraints there are, and how many trials keep them."""
    if not spec.constraints:
        return
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    kept = sum(map(is_feasible, complete))
    untrained = sum(t.user_attrs.get(attributes.REASON) == Reason.INFEASIBLE.value for t in trials)
    line = (
        f"Constraints: {', '.join(map(str, spec.constraints))}; {kept} of "
        f"{counted(len(complete), 'complete trial')} {'keep' if kept != 1 else 'keeps'} them"
    )
    if untrained:
        line += f", {untrained} could not and {'were' if untrained > 1 else 'was'} not trained"
    yield f"{line}."


def front_table(spec: StudySpec, front: Sequence[FrozenTrial]) -> list[Part]:
    """The trials of the front, the best by the first metric first."""
    if not front:
        return []
    rows = [
        (str(trial.number), *map(figure, trial.values), show_params(trial.params))
        for trial in front
    ]
    return [
        Paragraph(text="The trials that no other betters in both metrics."),
        Table(head=("trial", *spec.metrics, "parameters"), rows=rows),
    ]


def _values(spec: StudySpec, trial: FrozenTrial) -> str:
    return ", ".join(
        f"{name} {figure(value)}" for name, value in zip(spec.metrics, trial.values, strict=True)
    )
