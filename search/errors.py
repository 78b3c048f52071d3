"""Every error a user can cause.

SearchError                 one line: the rule, the value received, what to do
├── SpecError               a study file that cannot be used
├── StudyNotFound           no study of that name in the storage
├── StudyChanged            the study in the storage was created from another file
├── StudyHalted             the same error ended several trials in a row
├── StorageError            a storage that cannot be opened or is of a kind we refuse
│   └── WrongVersion        its tables are of another version of this program or of Optuna
├── ProblemError            the problem cannot be imported, or refuses its settings
└── NoResult                nothing has finished that could be chosen
"""

import difflib
from collections.abc import Collection, Sequence

__all__ = [
    "NoResult",
    "ProblemError",
    "SearchError",
    "SpecError",
    "StorageError",
    "StudyChanged",
    "StudyHalted",
    "StudyNotFound",
    "WrongVersion",
    "nearest",
]


class SearchError(Exception):
    """The root: its message is one line, fit to be shown as it is; the exit code is 2."""


class SpecError(SearchError):
    """A study file breaks a rule."""


class StudyNotFound(SearchError):
    """The storage holds no study of that name."""

    def __init__(self, name: str, storage: str, known: Sequence[str]) -> None:
        near = nearest(name, known)
        if near is not None:
            hint = f"did you mean {near!r}?"
        elif known:
            hint = f"it holds: {', '.join(sorted(known))}"
        else:
            hint = "it holds no study yet; `run --help` shows how to start one"
        super().__init__(f"no study named {name!r} in {storage}; {hint}")
        self.name = name
        self.known = tuple(known)


class StudyChanged(SearchError):
    """A study's spec is frozen when it is created, and the file at hand differs from it."""

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"study {name!r} was created from another file and its spec is frozen: "
            f"{'; '.join(differences)}; undo the change, amend the study by it with "
            f"`amend {name} FILE`, or give the study a new name, in the file or with --name"
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


class WrongVersion(StorageError):
    """Another version of this program or of Optuna made the tables, and waiting mends nothing."""


class ProblemError(SearchError):
    """The problem cannot be imported, or refuses its settings or parameters."""


class NoResult(SearchError):
    """No trial is COMPLETE, so there is nothing to choose."""


NEAR = 0.65  # similarity from which a name may be a misspelt other: `rnu` and `run` have 0.67
#: What people call things elsewhere, without hyphens -> their names here.
_ALIASES = {
    "asha": "successive-halving",
    "sha": "successive-halving",
    "bayesian": "tpe",
    "bo": "gp",
    "gridsearch": "grid",
    "randomsearch": "random",
    "sobol": "qmc",
    "earlystopping": "patience",
    "nop": "none",
    "lr": "learning_rate",
    "nepochs": "epochs",
    "ntrials": "trials",
    "maxtrials": "trials",
    "ls": "status",
    "list": "status",
    "continue": "resume",
    "unpause": "resume",
    "start": "run",
    "optimize": "run",
    "show": "status",
    "init": "new",
    "classify": "predict",
    "test": "evaluate",
    "copy": "copy-study",
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one of the known names that a wrong name most likely means; None if none is near.

    Upper case, hyphens, underscores and spaces do not count, and neither does the order of two
    letters, as far as the similarity of `difflib` goes.
    """
    by_letters = {_letters(each): each for each in known}
    wanted = _letters(name)
    wanted = by_letters.get(wanted) or _ALIASES.get(wanted, name)
    if wanted in known:
        return wanted
    near = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=NEAR)
    return by_letters[near[0]] if near else None


def _letters(name: str) -> str:
    return name.casefold().translate(str.maketrans("", "", "-_ "))
