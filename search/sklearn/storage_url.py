"""The address of a storage, as a parameter that can be printed."""

import sqlalchemy as sa

__all__ = ["StorageUrl"]


class StorageUrl(str):
    """A URL whose `repr` hides the password; as a string it is the URL.

    scikit-learn prints an estimator from the `repr` of each parameter, wherever it stands in
    another one.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        try:
            url = sa.make_url(self).render_as_string(hide_password=True)
        except (sa.exc.ArgumentError, ValueError):  # no URL: `fit` says so
            url = str(self)
        return repr(url)
