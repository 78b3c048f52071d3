"""Typed reading of the JSON objects in a bundle.

A manifest shows that a bundle is whole. It does not show who wrote it, so each value is checked
when it is read.
"""

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from fmnist_hpo.errors import InputError, printable

__all__ = ["LONGEST", "REMEDY", "Fields", "to_json"]

REMEDY = "export the study again, or fetch the bundle again"
DEEPEST = 8  # levels of nesting; config.json has 3
LONGEST = 10_000  # characters of a text
LARGEST = 2**53  # whole numbers beyond are no longer exact in other readers of JSON


class Fields:
    """A JSON object whose fields are checked when they are read.

    Args:
        values: the object as `json.loads` gave it.
        where: the place that an error names.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Parse a file.

        Raises:
            InputError: it holds no JSON object, or one that is nested absurdly deep.
        """
        try:
            value = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not _is_shallow(value):
            raise InputError(
                f"{where}: need a JSON object of at most {DEEPEST} levels, got something else; "
                f"{REMEDY}"
            )
        return cls(value, where)

    def refuse(self, name: str, need: str) -> NoReturn:
        """Raise the InputError that a field is not what it must be."""
        raise InputError(
            f"{self.where}: need {need} as {name!r}, got {reprlib.repr(self.values.get(name))}; "
            f"{REMEDY}"
        )

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self.values.get(name) is not None

    def text(self, name: str) -> str:
        """A text that can be printed on one line."""
        value = self.values.get(name)
        if not _is_text(value):
            self.refuse(name, "a printable text")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._list(name, _is_text, "a list of printable texts"))

    def whole(self, name: str, low: int = 0, high: int = LARGEST) -> int:
        """A whole number, low <= value <= high."""
        value = self.values.get(name)
        if not _is_whole(value) or not low <= value <= high:  # type: ignore[operator]
            self.refuse(name, f"a whole number from {low} to {high}")
        return int(value)  # type: ignore[arg-type]

    def wholes(self, name: str, low: int = 0, high: int = LARGEST) -> tuple[int, ...]:
        """A list of whole numbers, low <= each <= high."""

        def fits(value: Any) -> bool:
            return _is_whole(value) and low <= value <= high

        return tuple(self._list(name, fits, f"a list of whole numbers from {low} to {high}"))

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number, low <= value <= high."""
        value = self.values.get(name)
        if not _is_number(value) or not low <= value <= high:  # type: ignore[operator]
            self.refuse(name, "a finite number" + _within(low, high))
        return float(value)  # type: ignore[arg-type]

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return value

    def object(self, name: str) -> "Fields":
        """An object within this one."""
        value = self.values.get(name)
        if not isinstance(value, dict) or not all(map(_is_text, value)):
            self.refuse(name, "a JSON object with printable names")
        return Fields(value, f"{self.where}: {name}")

    def scalars(self, name: str) -> dict[str, Any]:
        """An object of texts, finite numbers, true, false and null; texts are made printable."""
        found = self.object(name).values
        if not all(map(_is_scalar, found.values())):
            self.refuse(name, "an object of single values")
        return {key: printable(one) if isinstance(one, str) else one for key, one in found.items()}

    def labels(self, name: str) -> dict[str, str]:
        """An object of texts, which are made printable."""
        found = self.scalars(name)
        if not all(isinstance(one, str) for one in found.values()):
            self.refuse(name, "an object of texts")
        return found

    def series(self, name: str) -> dict[str, list[float]]:
        """An object of lists of finite numbers."""
        found = self.object(name)
        return {key: found._list(key, _is_number, "a list of numbers") for key in found.values}

    def _list(self, name: str, fits: Callable[[Any], bool], need: str) -> list[Any]:
        value = self.values.get(name)
        if not isinstance(value, list) or not all(map(fits, value)):
            self.refuse(name, need)
        return value


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON as every file of a bundle has it: indented, in the order given, without NaN."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not level


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if _is_whole(value):
        return -LARGEST <= int(value) <= LARGEST
    return isinstance(value, float) and math.isfinite(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, bool) or _is_number(value)


def _within(low: float, high: float) -> str:
    return "" if math.isinf(low) and math.isinf(high) else f" from {low:g} to {high:g}"
