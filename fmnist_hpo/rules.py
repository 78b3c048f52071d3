"""Rules for single values. `check` returns a valid value, and says what is wrong with another."""

import difflib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from fmnist_hpo.errors import InputError

__all__ = ["Choice", "Integer", "Number", "Rule", "suggest"]


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(json.dumps(allowed) for allowed in self.values)

    @property
    def python_type(self) -> str:
        """The type in numpydoc's notation."""
        if self.values == (True, False):
            return "bool"
        return f"{{{self}}}"

    def check(self, name: str, value: Any) -> Any:
        """Return the allowed value that equals `value`.

        Raises:
            InputError: no allowed value does.
        """
        for allowed in self.values:
            # 1 == True == 1.0 in Python, but a choice of numbers must not accept a bool.
            if isinstance(value, bool) == isinstance(allowed, bool) and value == allowed:
                return allowed
        hint = suggest(str(value), map(str, self.values)) or "choose one of these"
        raise InputError(f"{name} must be one of {self}, got {value!r}; {hint}")


@dataclass(frozen=True)
class Integer:
    """A whole number, low <= value <= high."""

    low: int
    high: int

    python_type = "int"

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"

    def check(self, name: str, value: Any) -> int:
        """Return `value` as an int.

        Raises:
            InputError: `value` is no whole number, or out of range.
        """
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InputError(f"{name} must be a whole number, got {value!r}; write it like 3")
        number = int(value)
        if not self.low <= number <= self.high:
            raise InputError(
                f"need {self.low} <= {name} <= {self.high}, got {name}={value}; "
                "choose a value in this range"
            )
        return number


@dataclass(frozen=True)
class Number:
    """A finite number between low and high; an open end is excluded."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    python_type = "float"

    def __str__(self) -> str:
        low = "above " if self.open_low else ""
        high = "below " if self.open_high else ""
        return f"{low}{self.low:g} to {high}{self.high:g}"

    def check(self, name: str, value: Any) -> float:
        """Return `value` as a float.

        Raises:
            InputError: `value` is no finite number, or out of range.
        """
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{name} must be a number, got {value!r}; write it like 0.5")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        above = self.low < number if self.open_low else self.low <= number
        below = number < self.high if self.open_high else number <= self.high
        if not (math.isfinite(number) and above and below):
            left, right = "<" if self.open_low else "<=", "<" if self.open_high else "<="
            raise InputError(
                f"need {self.low:g} {left} {name} {right} {self.high:g}, got {name}={value}; "
                "choose a value in this range"
            )
        return number


Rule = Choice | Integer | Number


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Ask "did you mean ...?" with the most similar known name; None if no name is similar."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
