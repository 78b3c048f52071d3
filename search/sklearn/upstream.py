"""What StudySearchCV uses of scikit-learn's private parts: all of them are named here.

scikit-learn's `fit` calls `_run_search`, which hands candidates to a function that builds one list
of fits, gives it to joblib and formats the results with `_format_results`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import CellType, FunctionType
from typing import Any, ClassVar

from sklearn.model_selection import RandomizedSearchCV

from search.errors import SearchError

__all__ = ["Evaluate", "Format", "ScheduledSearchCV", "Task", "plain_function", "with_scheduler"]

Task = tuple[Any, Sequence[Any], dict[str, Any]]  # function, its arguments, its keywords
Evaluate = Callable[..., dict[str, Any]]
Format = Callable[..., dict[str, Any]]


class ScheduledSearchCV(RandomizedSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """RandomizedSearchCV with two places to step in: before the fits, and before their table."""

    #: The types of StudySearchCV's parameters; scikit-learn checks them when `fit` begins.
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RandomizedSearchCV._parameter_constraints,
        "sampler": [str, dict],
        "pruner": [str, dict, None],
        "timeout": [Real, None],
        "storage": [str, None],
        "study_name": [str, None],
    }

    def evaluation(self, evaluate_candidates: Evaluate) -> Evaluate:
        """What is called with the candidates that ParameterSampler draws."""
        return evaluate_candidates

    def table(
        self,
        format_results: Format,
        candidate_params: Sequence[Mapping[str, Any]],
        n_splits: int,
        out: Sequence[Mapping[str, Any]],
        more_results: Mapping[str, Sequence[Any]] | None,
    ) -> dict[str, Any]:
        """`cv_results_`; `format_results` wants every fold of every candidate."""
        return format_results(candidate_params, n_splits, out, more_results)

    def _run_search(self, evaluate_candidates: Evaluate, *, callback_ctx: Any = None) -> None:
        super()._run_search(self.evaluation(evaluate_candidates), callback_ctx=callback_ctx)

    def _format_results(
        self, candidate_params: Any, n_splits: int, out: Any, more_results: Any = None
    ) -> dict[str, Any]:
        return self.table(super()._format_results, candidate_params, n_splits, out, more_results)


def with_scheduler(
    evaluate_candidates: Evaluate, scheduler: Callable[[Iterable[Task]], list[dict[str, Any]]]
) -> Evaluate:
    """`evaluate_candidates`, with the scheduler in the place of its `parallel`.

    scikit-learn offers no other way to let a fit be skipped, stopped or remembered and keep the
    rest of its `fit`: the function is the same, bound to another value of that one variable.
    """
    code = evaluate_candidates.__code__
    cells = evaluate_candidates.__closure__ or ()
    if "parallel" not in code.co_freevars:
        raise SearchError(
            "StudySearchCV does not know this version of scikit-learn: evaluate_candidates has no "
            "variable 'parallel'; install scikit-learn 1.9"
        )
    bound = tuple(
        CellType(scheduler) if name == "parallel" else cell
        for name, cell in zip(code.co_freevars, cells, strict=True)
    )
    return FunctionType(
        code,
        evaluate_candidates.__globals__,
        evaluate_candidates.__name__,
        evaluate_candidates.__defaults__,
        bound,
    )


def plain_function(task: Task) -> Callable[..., dict[str, Any]]:
    """The function of a fit, without the wrapper that scikit-learn's own `Parallel` looks for."""
    function: Callable[..., dict[str, Any]] = task[0].__wrapped__
    return function
