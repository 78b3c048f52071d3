"""The address of a storage, as a parameter that can be printed."""

from search.storage import shown

__all__ = ["StorageUrl"]


class StorageUrl(str):
    """A URL whose `repr` hides secrets; as a string it is the URL.

    scikit-learn prints an estimator from the `repr` of each parameter, wherever it stands in
    another one.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(shown(str(self)))
