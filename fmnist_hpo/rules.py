"""The rules that single parameters obey: each checks a value and says what is wrong with it."""

import difflib
import json
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from fmnist_hpo.errors import InputError

__all__ = ["Choice", "Integer", "Number", "Rule"]


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def check(self, name: str, value: Any) -> Any:
        for allowed in self.values:
            # 1 == True == 1.0 in Python; a choice of numbers must not accept a truth value.
            if isinstance(value, bool) == isinstance(allowed, bool) and value == allowed:
                return allowed
        shown = ", ".join(json.dumps(allowed) for allowed in self.values)
        near = difflib.get_close_matches(str(value), [str(v) for v in self.values], n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise InputError(f"{name} must be one of {shown}, got {value!r}; {remedy}")


@dataclass(frozen=True)
class Integer:
    """A whole number, low <= value <= high."""

    low: int
    high: int

    def check(self, name: str, value: Any) -> int:
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

    def check(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{name} must be a number, got {value!r}; write it like 0.5")
        number = float(value)
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
