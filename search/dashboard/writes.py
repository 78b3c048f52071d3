"""What optuna-dashboard's page may change of a study that has a ledger.

Notes and artifacts are Optuna's own business. A study is deleted as the command `delete` does it.
Anything else would change trials beside the ledger that counts them.
"""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from optuna.storages import BaseStorage

from search import attributes
from search.errors import SearchError

__all__ = ["LedgerWrites"]

_FREE = ("/note", "/api/artifacts/")  # parts of the routes that change no trial and no budget
_STUDY = "/api/studies/<study_id:int>"


class LedgerWrites:
    """A plugin of Bottle, by the second version of its interface.

    Args:
        storage: of the studies.
        delete: deletes the study of a name and all that belongs to it, or raises `SearchError`.
    """

    name = "ledger-writes"
    api = 2

    def __init__(self, storage: BaseStorage, delete: Callable[[str], object]) -> None:
        self._storage = storage
        self._delete = delete

    def apply(self, callback: Callable[..., Any], route: Any) -> Callable[..., Any]:
        """What answers the requests of a route."""
        if route.method in ("GET", "HEAD") or any(part in route.rule for part in _FREE):
            return callback

        @wraps(callback)
        def answer(*args: Any, **kwargs: Any) -> Any:
            try:
                has_ledger = self._has_ledger(**kwargs)
            except KeyError:
                return _answer(404, "it is not there any more; reload the page")
            if not has_ledger:
                return callback(*args, **kwargs)
            if (route.method, route.rule) != ("DELETE", _STUDY):
                return _answer(
                    403,
                    "this study's ledger counts its trials, and the page does not write it; use "
                    "the commands add, stop, extend and amend",
                )
            try:
                self._delete(self._storage.get_study_name_from_id(kwargs["study_id"]))
            except SearchError as error:
                return _answer(409, str(error))
            return _answer(204)

        return answer

    def _has_ledger(
        self, study_id: int | None = None, trial_id: int | None = None, **_: Any
    ) -> bool:
        """Whether a request is about a study, or a trial, that a ledger counts; else `KeyError`."""
        if study_id is not None:
            return attributes.UID in self._storage.get_study_user_attrs(study_id)
        if trial_id is not None:
            return attributes.LINEAGE in self._storage.get_trial(trial_id).user_attrs
        return False


def _answer(status: int, reason: str | None = None) -> Any:
    from bottle import HTTPResponse

    body = "" if reason is None else json.dumps({"reason": reason})
    return HTTPResponse(body, status, headers={"Content-Type": "application/json"})
