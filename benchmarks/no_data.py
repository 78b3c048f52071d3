"""A problem without data, for benchmarks of what surrounds a trial."""

from collections.abc import Mapping
from typing import Any

__all__ = ["NoData"]


class NoData:
    """All of a problem but its `run`."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        del data

    def check(self, params: Mapping[str, Any]) -> None:
        """Any parameters will do."""

    def fingerprint(self) -> Mapping[str, str]:
        return {}

    def environment(self) -> Mapping[str, str]:
        return {}
