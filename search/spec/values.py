"""Values of a study file, each with the one line that says what is wrong with it."""

import difflib
import json
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from search.errors import SpecError

__all__ = ["leaves", "number_of", "only", "text_of"]


def only(table: Any, allowed: tuple[str, ...], where: str, what: str) -> None:
    """Raise `SpecError` unless it is a table with no other keys; `what` names a key in messages."""
    if not isinstance(table, dict):
        raise SpecError(f"{where} must be a table, got {table!r}")
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(allowed)}"
            raise SpecError(f"{where} has an unknown {what} {key!r}; {hint}")


def text_of(table: Mapping[str, Any], key: str, where: str) -> str:
    """A non-empty string that must be there, else `SpecError`."""
    if key not in table:
        raise SpecError(f'{where}: the key {key!r} is missing; add {key} = "..."')
    value = table[key]
    if not isinstance(value, str) or not value:
        raise SpecError(f"{where}: {key} must be a non-empty string, got {value!r}")
    return value


def number_of(
    table: Mapping[str, Any],
    key: str,
    where: str,
    *,
    default: Any = None,
    whole: bool = False,
    low: int | None = None,
    above: float | None = None,
) -> Any:
    """A finite number within bounds, else `SpecError`; the default where the key is absent."""
    value = table.get(key, default)
    if value is None:
        return None
    ok = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    finite = whole or not ok or abs(value) <= sys.float_info.max
    rule = "a whole number" if whole else "a number" if finite else "a finite number"
    rule += f" >= {low}" if low is not None else f" > {above:g}" if above is not None else ""
    within = ok and finite and (low is None or value >= low) and (above is None or value > above)
    if not within:
        raise SpecError(f"{where}: {key} must be {rule}, got {value!r}")
    return value


def leaves(value: Any, prefix: str = "") -> dict[str, str]:
    """Leaf values by dotted key, as JSON."""
    if isinstance(value, dict) and value:
        items = [(f"{prefix}.{k}" if prefix else k, v) for k, v in value.items()]
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = [(f"{prefix}[{i}]", v) for i, v in enumerate(value)]
    else:
        return {prefix: json.dumps(value)}
    return {key: leaf for k, v in items for key, leaf in leaves(v, k).items()}
