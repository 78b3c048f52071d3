"""What a stored search is a search of: digests by which a changed one is noticed and refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.random import RandomState

from search.errors import SearchError, StudyChanged
from search.sklearn.fingerprint.content import digest
from search.sklearn.fingerprint.distributions import show_value

__all__ = ["SearchChanged", "check_same", "describe_random_state", "fingerprint"]

FORMAT, CURRENT = "format", "2"  # raised whenever equal searches get other digests than before

#: part of the search -> its digest, and what a message shows of it (nothing for arrays).
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
    """Digest every part of a search.

    Args:
        arrays: parts too large to show (data, splits).
        values: parts to show when they differ (the estimator, the number of candidates).

    Raises:
        SearchError: a part cannot be compared, as an open file among the values of an estimator.
    """
    parts = {FORMAT: [CURRENT, CURRENT]}
    parts |= {name: [_digest(name, value), ""] for name, value in arrays.items()}
    shown = {**values, **_by_key(param_distributions)}
    parts |= {name: [_digest(name, value), show_value(value)] for name, value in shown.items()}
    return parts


def check_same(name: str, stored: Fingerprint, ours: Fingerprint) -> None:
    """Compare the search that a study holds with ours.

    Raises:
        SearchChanged: they differ; the message names each part that does.
    """
    if FORMAT not in stored or stored[FORMAT][0] != ours[FORMAT][0]:
        raise SearchChanged(name, ["it was stored by another version of StudySearchCV"])
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


def _by_key(param_distributions: Any) -> dict[str, Any]:
    """The distribution of each key of each dict; a list of one dict is that dict."""
    if isinstance(param_distributions, Mapping):
        param_distributions = [param_distributions]
    several = len(param_distributions) > 1
    found: dict[str, Any] = {"number of spaces": len(param_distributions)}
    for index, part in enumerate(param_distributions):
        place = f"param_distributions[{index}]" if several else "param_distributions"
        found |= {f"{place}[{key!r}]": source for key, source in part.items()}
    return found


def _digest(name: str, value: Any) -> str:
    try:
        return digest(value)
    except Exception as error:  # whatever an object of the user's may raise
        raise SearchError(
            f"a stored search compares its {name} by content, and this one cannot be taken apart: "
            f"{' '.join(str(error).split())}; use objects that can be pickled"
        ) from error
