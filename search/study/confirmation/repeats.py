"""The problem that runs a trial: the study's, or the same one on another split of its data."""

from search.errors import ProblemError
from search.problem import Problem, Reshuffling
from search.spec import StudySpec

__all__ = ["problem_of"]


def problem_of(problem: Problem, spec: StudySpec, lineage: int) -> Problem:
    """The problem of one lineage.

    Args:
        problem: of the study.
        spec: by which the lineage began.

    Raises:
        ProblemError: it is repeated on another split, and the problem draws none.
    """
    named = spec.assigned(lineage)
    if named is None or not named.reshuffle or named.repeat is None:
        return problem
    if not isinstance(problem, Reshuffling):
        raise ProblemError(
            f"study {spec.name!r} repeats trials on other splits, got the problem {spec.problem!r} "
            "without the method reshuffled; use the version it was created with"
        )
    return problem.reshuffled(named.repeat)
