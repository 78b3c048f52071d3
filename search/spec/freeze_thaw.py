"""Whether a study file allows freeze-thaw: the rules that need no look at the problem."""

from dataclasses import dataclass

from search.spec.study_file import StudySpec

__all__ = ["Hindrance", "find_hindrance"]


@dataclass(frozen=True, kw_only=True)
class Hindrance:
    """Why freeze-thaw cannot be used, and what to do about it."""

    rule: str  # "a study without [pruner]"
    got: str  # "the pruner median"
    remedy: str  # "remove [pruner]"

    @property
    def message(self) -> str:
        """The refusal of a study file that names freeze-thaw."""
        return (
            f"the sampler freeze-thaw needs {self.rule}, got {self.got}; {self.remedy}, or name "
            "another sampler"
        )


def find_hindrance(spec: StudySpec) -> Hindrance | None:
    """The first reason against freeze-thaw in a study file; None where there is none."""
    if len(spec.aims) > 1:
        return Hindrance(
            rule="one metric, whose curve it continues", got="two metrics", remedy="give one"
        )
    if spec.constraints:
        return Hindrance(
            rule="a study without [constraints], which it does not model",
            got=", ".join(map(str, spec.constraints)),
            remedy="remove [constraints]",
        )
    if spec.pruner.name != "none":
        return Hindrance(
            rule="a study without pruner, as it decides itself which trials go on",
            got=f"the pruner {spec.pruner.name}",
            remedy="remove [pruner]",
        )
    if spec.folds is not None:
        return Hindrance(
            rule='mode = "holdout", as the curve of a trial is over its steps',
            got='mode = "cross-validation"',
            remedy="remove mode and folds",
        )
    if spec.hours is None and spec.steps is None:
        return Hindrance(
            rule="a budget of hours or steps, at whose end it stops",
            got="neither",
            remedy="add budget.hours or budget.steps",
        )
    if not spec.space.parameters:
        return Hindrance(rule="a [space]", got="none", remedy="declare one")
    return None
