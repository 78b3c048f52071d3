"""Values of a study file, each with the one line that says what is wrong with it."""

import datetime
import json
import math
import re
import reprlib
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from search.errors import SpecError
from search.spec.keys import Key, unknown_key

__all__ = [
    "MOST_DEPTH",
    "check_document",
    "check_parameter_name",
    "check_table",
    "equal",
    "is_finite",
    "leaves",
    "shown",
    "study_name_of",
    "value_of",
]

MOST_DEPTH = 20  # tables and lists within each other
#: Of a whole number, fewer than Python's 4,300 decimal digits.
MOST_BITS = 14_000
MANY_DIGITS = "a number has too many digits; shorten it"
LONGEST_NAME = 200  # characters of a parameter's name; Optuna's column holds 512
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20
_SHORT.maxlong = 120


def shown(value: Any) -> str:
    """A value for a message: its repr, cut to a bounded length."""
    return _SHORT.repr(value)


def study_name_of(value: Any, where: str) -> str:
    """The name of a study, which also names its folder.

    Raises:
        SpecError: it is no string, or holds what a folder's name may not hold; `where` names the
            file or the argument.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value.endswith(".toml"):
        raise SpecError(
            f"{where}: name must be 1 to 100 letters (a to z), digits, '.', '_' or '-', begin with "
            f"a letter or digit and not end in .toml, got {shown(value)}; rename it"
        )
    return value


def check_parameter_name(name: str, where: str) -> None:
    """Raise `SpecError` unless every storage can hold the name and a line of text can show it."""
    if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise SpecError(
            f"{where}: a parameter's name is 1 to {LONGEST_NAME} printable characters, got "
            f"{shown(name)}; rename it"
        )


def check_table(value: Any, table: str, known: Mapping[str, Key], where: str) -> None:
    """Raise `SpecError` unless the value is a table that holds no other keys than these."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where}: {table} must be a table, got {shown(value)}")
    for name in value:
        if name not in known:
            raise SpecError(unknown_key(str(name), table, known, where))


def value_of(table: Mapping[str, Any], key: Key, where: str) -> Any:
    """The value of a key, checked by its rule; the default if it is absent.

    Args:
        where: names the file and the table in messages.

    Raises:
        SpecError: it is missing, or breaks the rule.
    """
    if key.name not in table:
        if key.required:
            raise SpecError(f"{where}: {key.name} is missing; add {key.name} = {_example(key)}")
        return key.default
    value = table[key.name]
    if not _holds(value, key):
        finite = not isinstance(value, float) or is_finite(value)
        rule = key.rule if finite else key.rule.replace("a number", "a finite number")
        raise SpecError(f"{where}: {key.name} must be {rule}, got {shown(value)}")
    return value


def _holds(value: Any, key: Key) -> bool:
    if key.choices:
        return isinstance(value, str) and value in key.choices
    if isinstance(value, str) and value in key.words:
        return True
    if key.type == "string":
        return isinstance(value, str) and value != "" and len(value) <= 200 and value.isprintable()
    if key.type in ("integer", "number"):
        number = Integral if key.type == "integer" else Real
        if isinstance(value, bool) or not isinstance(value, number) or not is_finite(value):
            return False
        amount: Any = value
        return (
            (key.low is None or amount >= key.low)
            and (key.above is None or amount > key.above)
            and (key.high is None or amount <= key.high)
        )
    kinds = {"boolean": bool, "table": dict, "list": list}
    return isinstance(value, kinds[key.type])


def _example(key: Key) -> str:
    if key.choices:
        return f'"{key.choices[0]}"'
    return '"..."' if key.type == "string" else f"... ({key.rule})"


def is_finite(number: Any) -> bool:
    """Whether a number is one that a float can hold; exact for any integer, false for NaN."""
    return bool(abs(number) <= sys.float_info.max)


def equal(one: Any, other: Any) -> bool:
    """Whether two values of study files are the same; NaN is the same as itself."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    undefined = [isinstance(value, float) and math.isnan(value) for value in (one, other)]
    return all(undefined) or bool(one == other)


def check_document(document: Any, where: str) -> None:
    """Raise `SpecError` for what cannot be written as JSON, of which the study's hash is taken.

    Tables that lie too deep within each other, dates, and whole numbers of more digits than Python
    writes, which TOML may have in hexadecimal.
    """
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise SpecError(
                f"{where}: tables and lists may lie {MOST_DEPTH} deep within each other, got more; "
                "flatten them"
            )
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, datetime.date | datetime.time):
                raise SpecError(f"{where}: a value is no date, got {value}; write it as a string")
            elif isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise SpecError(f"{where}: {MANY_DIGITS}")
        level = below


def leaves(value: Any, prefix: str = "") -> dict[str, str]:
    """Leaf values by dotted key, as JSON."""
    if isinstance(value, dict) and value:
        items = [(f"{prefix}.{k}" if prefix else k, v) for k, v in value.items()]
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = [(f"{prefix}[{i}]", v) for i, v in enumerate(value)]
    else:
        return {prefix: json.dumps(value)}
    return {key: leaf for k, v in items for key, leaf in leaves(v, k).items()}
