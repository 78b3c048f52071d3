"""Every error a user can cause.

SearchError                 one line: the rule, the value received, what to do
├── SpecError               a study file that cannot be used
├── StudyNotFound           no study of that name in the storage
├── StudyChanged            the study in the storage was created from another file
├── StudyHalted             the same error ended several trials in a row
├── StorageError            a storage that cannot be opened or is of a kind we refuse
├── ProblemError            the problem cannot be imported, or refuses its settings
└── NoResult                nothing has finished that could be chosen
"""

from collections.abc import Sequence

__all__ = [
    "NoResult",
    "ProblemError",
    "SearchError",
    "SpecError",
    "StorageError",
    "StudyChanged",
    "StudyHalted",
    "StudyNotFound",
]


class SearchError(Exception):
    """The root: its message is one line, fit to be shown as it is; the exit code is 2."""


class SpecError(SearchError):
    """A study file breaks a rule."""


class StudyNotFound(SearchError):
    """The storage holds no study of that name."""

    def __init__(self, name: str, storage: str, known: Sequence[str]) -> None:
        import difflib

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif known:
            hint = f"it holds: {', '.join(sorted(known))}"
        else:
            hint = "it holds no study yet; start one with `run`"
        super().__init__(f"no study named {name!r} in {storage}; {hint}")
        self.name = name
        self.known = tuple(known)


class StudyChanged(SearchError):
    """A study's spec is frozen when it is created, and the file at hand differs from it."""

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"study {name!r} was created from another file and its spec is frozen: "
            f"{'; '.join(differences)}; undo the change, or give the file a new name"
        )
        self.name = name
        self.differences = tuple(differences)


class StudyHalted(SearchError):
    """Several trials in a row ended with the same error of the problem's code."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(
            f"study {name!r} was halted: trials in a row failed with {cause}; "
            "mend the cause and run the same command again, those trials are then repeated"
        )
        self.name = name
        self.cause = cause


class StorageError(SearchError):
    """A storage cannot be opened, or is of a kind that cannot carry the ledger."""


class ProblemError(SearchError):
    """The problem cannot be imported, or refuses its settings or parameters."""


class NoResult(SearchError):
    """No trial is COMPLETE, so there is nothing to choose."""
