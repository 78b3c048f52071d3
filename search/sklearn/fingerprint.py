"""What a stored search is a search of: hashes by which a changed one is noticed and refused."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import scipy.sparse
from numpy.random import RandomState

from search.errors import SearchError, StudyChanged

__all__ = ["SearchChanged", "check_same", "describe_random_state", "fingerprint"]

SHOWN_LENGTH = 120  # characters of a value that a message quotes

#: part of the search -> its hash, and what a message shows of it (nothing for arrays).
Fingerprint = Mapping[str, Sequence[str]]


class SearchChanged(StudyChanged):
    """The study of that name holds another search than the one that is asked for now."""

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        SearchError.__init__(
            self,
            f"study {name!r} holds another search: {'; '.join(differences)}; "
            "undo the change, or give another study_name",
        )
        self.name = name
        self.differences = tuple(differences)


def fingerprint(
    *,
    arrays: Mapping[str, Any],
    values: Mapping[str, Any],
    param_distributions: Any,
) -> dict[str, list[str]]:
    """Hash every part of a search.

    Args:
        arrays: parts too large to show (data, splits).
        values: parts to show when they differ (the estimator, the number of candidates).

    Raises:
        SearchError: a part cannot be hashed, as a lambda among the values of an estimator.
    """
    parts = {name: [_hash(name, _content(value)), ""] for name, value in arrays.items()}
    parts |= {name: [_hash(name, value), _show(value)] for name, value in values.items()}
    described = _describe(param_distributions)
    parts["param_distributions"] = [_hash("param_distributions", described), _show(described)]
    return parts


def check_same(name: str, stored: Fingerprint, ours: Fingerprint) -> None:
    """Raise `SearchChanged`, naming what differs, unless the two are the same search."""
    differences = []
    for part in sorted(stored.keys() | ours.keys()):
        (there, was), (here, now) = stored.get(part, ("", "none")), ours.get(part, ("", "none"))
        if there != here:
            differences.append(
                f"{part} differs" if was == now else f"{part} was {was} and is now {now}"
            )
    if differences:
        raise SearchChanged(name, differences)


def describe_random_state(random_state: Any) -> str:
    """What is compared of a `random_state`: an integer counts, a generator's state does not.

    A generator moves on with each use, so the study keeps the state that it began with.
    """
    if random_state is None:
        return "None"
    return "a RandomState" if isinstance(random_state, RandomState) else str(int(random_state))


def _hash(name: str, value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception as error:  # whatever pickling an object of the user's may raise
        raise SearchError(
            f"a stored search compares its {name} by hash, and this one cannot be pickled: "
            f"{' '.join(str(error).split())}; use functions and classes that have a name"
        ) from error


def _show(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def _describe(value: Any) -> Any:
    """Distributions by family and parameters: the objects also hold generators and caches."""
    if isinstance(value, Mapping):
        return {key: _describe(item) for key, item in value.items()}
    family = getattr(getattr(value, "dist", None), "name", None)
    if hasattr(value, "rvs") and family is not None:
        kwds = {key: _number(item) for key, item in value.kwds.items()}
        return f"{family}{json.dumps([[_number(item) for item in value.args], kwds])}"
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        return [_describe(item) for item in value]
    return value


def _content(value: Any) -> Any:
    """Data by their numbers: neither how they lie in memory counts, nor what was looked up in them.

    A sparse matrix keeps what it was once asked of itself, as whether its indices are sorted.
    """
    if isinstance(value, tuple):
        return tuple(map(_content, value))
    if isinstance(value, Mapping):
        return {key: _content(item) for key, item in value.items()}
    if type(value) in (np.ndarray, np.memmap):
        return np.ascontiguousarray(value)
    if scipy.sparse.issparse(value):
        rows = value.tocsr()
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        return (rows.shape, rows.data, rows.indices, rows.indptr)
    return value


def _number(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
