"""What is stored of an exception that ended a trial."""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from search import attributes
from search.text import describe_error, printable, shorten

__all__ = ["describe_failure"]

TRACEBACK_CHARACTERS = 16_000  # stored at most, its beginning and its end


def describe_failure(error: BaseException, problem: object) -> dict[str, str]:
    """The user attributes of a trial that an exception of the problem's code ended.

    Texts are bounded in length and free of what a database or a terminal cannot take.

    Args:
        problem: whose code raised; its module says which files are its own.
    """
    text = "".join(traceback.format_exception(error))
    return {
        attributes.ERROR: describe_error(error),
        attributes.ERROR_AT: f"{type(error).__name__} at {_place(error, problem)}",
        attributes.TRACEBACK: printable(shorten(text, TRACEBACK_CHARACTERS)),
    }


def _place(error: BaseException, problem: object) -> str:
    """File and line of the innermost frame in the problem's own code, else of the innermost."""
    frames = list(_frames(error))
    if not frames:
        return "an unknown place"
    root = _code_of(problem)
    own = [(frame, line) for frame, line in frames if _is_below(_file(frame), root)]
    frame, line = (own or frames)[-1]
    file = _file(frame)
    shown = file.relative_to(root) if own and file != root else file.name
    return f"{shown}:{line}"


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames of the exception's traceback, outermost first, and their lines."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _file(frame: FrameType) -> Path:
    return Path(frame.f_code.co_filename)


def _code_of(problem: object) -> Path:
    """The folder of the package that defines the problem; of a lone module, its folder.

    A lone module among installed libraries is its own code alone.
    """
    name = type(problem).__module__
    files = [
        getattr(sys.modules.get(of), "__file__", None) for of in (name.partition(".")[0], name)
    ]
    file = Path(next((file for file in files if file), "."))
    if file.name != "__init__.py" and file.parent.name == "site-packages":
        return file
    return file.parent


def _is_below(file: Path, root: Path) -> bool:
    if file == root:
        return True
    return file.is_relative_to(root) and "site-packages" not in file.relative_to(root).parts
