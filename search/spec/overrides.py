"""Keys of a study file that a command line gives other values: `budget.trials=8`."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import SpecError
from search.spec.values import shown

__all__ = ["Override", "overridden", "read_override", "read_params", "toml_of"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: Up to a comma that stands in no string.
_PART = re.compile(r"""(?:[^,"']|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_BARE_VALUE = re.compile(r"""[^\s"'\[\]{}][^"'\[\]{}]*""")  # it needs no quotes to be a string


@dataclass(frozen=True, kw_only=True)
class Override:
    """One key with its value.

    Attributes:
        path: the key's parts: ("budget", "trials").
        value: as TOML's parser gives it.
    """

    path: tuple[str, ...]
    value: Any


def read_override(text: str, example: str = "budget.trials=8") -> Override:
    """Read KEY=VALUE; the value is TOML's, or a string without quotes.

    Args:
        example: of such a text, for an error.

    Raises:
        SpecError: it has no key or no value, or the value is neither.
    """
    key, sign, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not sign or not key or not value or not key.isprintable():
        raise SpecError(f"need KEY=VALUE, such as {example}, got {text!r}")
    return Override(path=_path_of(key, text), value=_value_of(key, value))


def read_params(text: str) -> dict[str, Any]:
    """Read NAME=VALUE,...; the values are TOML's, or strings without quotes.

    Raises:
        SpecError: a part has no name or no value, its value is neither, or a name occurs twice.
    """
    found: dict[str, Any] = {}
    parts = _PART.findall(text)
    if ",".join(parts) != text or not parts:
        raise SpecError(f"need NAME=VALUE,..., such as blocks=2,optimizer=adam, got {text!r}")
    for part in parts:
        override = read_override(part, "learning_rate=3e-3")
        (name, *deeper) = override.path
        if deeper:
            raise SpecError(f"need the name of a parameter, got {'.'.join(override.path)!r}")
        if name in found:
            raise SpecError(f"a parameter is given once, got {name} twice")
        found[name] = override.value
    return found


def _path_of(key: str, text: str) -> tuple[str, ...]:
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        table = {}
    path = []
    while isinstance(table, dict) and len(table) == 1:
        ((name, table),) = table.items()
        path.append(name)
    if table != 0:
        raise SpecError(f"need a dotted key, such as budget.trials, got {key!r} in {text!r}")
    return tuple(path)


def _value_of(key: str, text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
        if table.keys() == {"value"}:
            return table["value"]
    except (ValueError, RecursionError):
        pass
    if _BARE_VALUE.fullmatch(text) and text.isprintable():
        return text
    raise SpecError(
        f'{key}: need a value of TOML, such as 8, 0.5, true, "adam" or [1, 2], got {shown(text)}'
    )


def overridden(document: Mapping[str, Any], overrides: Iterable[Override], where: str) -> str:
    """The text of a study file with other values; its comments are lost.

    Args:
        document: the file, parsed.
        where: the file, for messages.

    Raises:
        SpecError: a key leads through a value that is no table.
    """
    changed: dict[str, Any] = dict(document)
    for override in overrides:
        table = changed
        for depth, name in enumerate(override.path[:-1], start=1):
            inner = table.get(name, {})
            if not isinstance(inner, Mapping):
                key = ".".join(override.path)
                raise SpecError(
                    f"{where}: cannot set {key}: {'.'.join(override.path[:depth])} is no table "
                    f"but {shown(inner)}; set that as a whole"
                )
            table[name] = table = dict(inner)
        table[override.path[-1]] = override.value
    return "".join(f"{_key(name)} = {toml_of(value)}\n" for name, value in changed.items())


def toml_of(value: Any) -> str:
    """A value as TOML on one line; tables are inline."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {toml_of(item)}" for name, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_of, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)  # of numbers, inf and nan included


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml_of(name)
