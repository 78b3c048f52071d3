"""From the name of a problem in a study file to the problem itself."""

import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from search.aims.foreknown import check_known
from search.errors import ProblemError, SearchError
from search.problem import Problem, Resumable
from search.spec import StudySpec
from search.spec.values import shown
from search.text import describe_error

__all__ = [
    "check_last_step",
    "check_params",
    "check_trial",
    "labels_of",
    "last_step_of",
    "load_problem",
    "load_study_problem",
    "own_code",
]

log = logging.getLogger(__name__)

METHODS = ("check", "fingerprint", "environment", "run")


def load_problem(spec: StudySpec) -> Problem:
    """Import the problem and build it from the `[data]` table and the number of folds, if any.

    Modules are looked for in the current folder last, so that a file in it replaces no other
    module.

    Raises:
        ProblemError: it cannot be imported, is no class with a problem's methods, does not
            cross-validate, or refuses its settings.
    """
    kind = _find(spec.problem)
    if spec.folds is None:
        with own_code(spec.problem, "built"):
            held_out: Problem = kind(spec.data)
        return held_out
    try:
        inspect.signature(kind).bind(spec.data, folds=spec.folds)
    except TypeError as error:
        raise ProblemError(
            f"the problem {spec.problem!r} does not cross-validate: it takes no argument folds; "
            'leave mode = "cross-validation" out, or give it one (see search.problem.Problem)'
        ) from error
    with own_code(spec.problem, "built"):
        problem: Problem = kind(spec.data, folds=spec.folds)
    return problem


def _find(problem: str) -> Any:
    """The class that an address `module:Class` names."""
    module_name, _, class_name = problem.partition(":")
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.append(str(here))
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may also call sys.exit
        raise ProblemError(
            f"cannot import the problem {problem!r}: {describe_error(error)}; "
            f"is {module_name} installed, or in the current directory?"
        ) from error
    hidden = _hidden(here)
    if hidden:
        _warn_of(here, tuple(hidden))
    kind = getattr(module, class_name, None)
    if kind is None:
        top = module_name.partition(".")[0]
        hint = f"; rename {top} in the current folder" if top in map(_stem, hidden) else ""
        raise ProblemError(f"the problem {problem!r}: {module_name} has no {class_name!r}{hint}")
    missing = [name for name in METHODS if not callable(getattr(kind, name, None))]
    if not inspect.isclass(kind) or missing:
        raise ProblemError(
            f"the problem {problem!r} must be a class with the methods {', '.join(METHODS)}; "
            + (f"it has no {', '.join(missing)}" if missing else f"it is a {type(kind).__name__}")
        )
    return kind


def load_study_problem(spec: StudySpec, fingerprint: Mapping[str, str]) -> Problem:
    """The problem of a study that exists.

    Args:
        fingerprint: what the study's numbers depend on, as it was stored with it.

    Raises:
        ProblemError: it cannot be imported or built, or its data are not the study's.
    """
    problem = load_problem(spec)
    ours = labels_of(problem, spec.problem, "fingerprint")
    if ours != fingerprint:
        names = sorted(ours.keys() | fingerprint.keys())
        changed = [
            f"{name}: {fingerprint.get(name, 'none')[:12]} in the study, "
            f"{ours.get(name, 'none')[:12]} here"
            for name in names
            if ours.get(name) != fingerprint.get(name)
        ]
        raise ProblemError(
            f"study {spec.name!r} was created on other data ({'; '.join(changed)}); "
            "give it the data it was created on, or give the study a new name"
        )
    return problem


def labels_of(problem: Problem, name: str, method: str) -> dict[str, str]:
    """What the method `fingerprint` or `environment` of a problem returns.

    Raises:
        ProblemError: it fails, or returns anything but strings by strings.
    """
    with own_code(name, f"asked for its {method}"):
        found = getattr(problem, method)()
        labels = dict(found) if isinstance(found, Mapping) else None
    if labels is None or not all(isinstance(x, str) for pair in labels.items() for x in pair):
        raise ProblemError(
            f"the problem {name!r}: {method} must return a mapping of strings to strings, got "
            f"{shown(found)}; correct its code"
        )
    return labels


def check_params(problem: Problem, name: str, params: Mapping[str, Any]) -> None:
    """Ask a problem whether it accepts parameters.

    Raises:
        ProblemError: it does not, or fails.
    """
    with own_code(name, "asked to check parameters"):
        problem.check(params)


def check_trial(problem: Problem, spec: StudySpec, params: Mapping[str, Any]) -> None:
    """Refuse a trial that would run with these parameters.

    Raises:
        ProblemError: the problem does not accept them, or fails.
        SpecError: they break a constraint that is known in advance.
    """
    check_params(problem, spec.problem, params)
    with own_code(spec.problem, "asked for metrics"):
        check_known(problem, spec, params, "the trial")


def last_step_of(problem: Resumable, name: str, params: Mapping[str, Any]) -> int:
    """The last step of a trial with these parameters, as the problem says.

    Raises:
        ProblemError: it cannot say it, fails, or says what is no step.
    """
    with own_code(name, "asked for the last step of a trial"):
        last = problem.last_step(params)
    return check_last_step(name, last)


def check_last_step(name: str, last: object) -> int:
    """What a problem gave as a trial's last step; `ProblemError` where it is none."""
    if isinstance(last, bool) or not isinstance(last, int) or last < 1:
        raise ProblemError(
            f"the problem {name!r}: last_step must return a whole number >= 1, got {shown(last)}; "
            "correct its code"
        )
    return last


def _hidden(here: Path) -> list[str]:
    """Modules and packages of a folder whose name another module in use has."""
    try:
        entries = sorted(here.iterdir())
    except OSError:
        return []
    found = [e for e in entries if e.suffix == ".py" or (e / "__init__.py").is_file()]
    return [e.name for e in found if _is_elsewhere(sys.modules.get(e.stem), here)]


def _is_elsewhere(module: ModuleType | None, here: Path) -> bool:
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    return file is None or not Path(file).absolute().is_relative_to(here)


@cache
def _warn_of(folder: Path, names: tuple[str, ...]) -> None:  # noqa: ARG001 - once a folder
    log.warning(
        "%s in the current folder: not imported, as a module of that name is in use; rename it",
        ", ".join(names),
    )


def _stem(name: str) -> str:
    return name.removesuffix(".py")


@contextmanager
def own_code(problem: str, asked: str) -> Iterator[None]:
    """Turn an exception that a problem should not raise into one line, its traceback in a note."""
    try:
        yield
    except (SearchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit too
        failed = ProblemError(
            f"the problem {problem!r} failed when it was {asked}: {describe_error(error)}; "
            "correct its code (traceback above)"
        )
        failed.add_note("".join(traceback.format_exception(error)).rstrip())
        raise failed from error
