"""What a distribution consists of, for comparing and for showing it."""

import re
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["distribution_parts", "show_value"]

SHOWN_LENGTH = 120  # characters of a value that a message quotes
ARGUMENT = "argument "  # prefix of the names of a frozen distribution's arguments
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def distribution_parts(source: Any) -> tuple[type, dict[str, Any]] | None:
    """The class of a distribution of `scipy.stats`, and its parameters by name.

    A parameter is an argument of a frozen distribution, by its name and whether it was given or
    not; an end of the support; or an attribute that its own class or its constructor gave it.

    Args:
        source: frozen, as `stats.expon(scale=2)`, or not, as `stats.rv_discrete(values=...)`.

    Returns:
        None for any other object.
    """
    family = getattr(source, "dist", source)
    if not isinstance(family, stats.rv_continuous | stats.rv_discrete):
        return None
    if family is not source and not _is_of_scipy(source):
        return None  # an object that holds a distribution
    discrete = isinstance(family, stats.rv_discrete)
    plain = vars(stats.rv_discrete() if discrete else stats.rv_continuous())
    parts = {key: value for key, value in vars(family).items() if key not in plain}
    parts |= {"a": family.a, "b": family.b}
    if not discrete:
        parts["xtol"] = family.xtol
    if family is not source:
        parts |= _arguments(source, family, discrete)
    return type(family), parts


def _arguments(frozen: Any, family: Any, discrete: bool) -> dict[str, Any]:
    shapes = [name.strip() for name in (family.shapes or "").split(",") if name.strip()]
    names = [*shapes, "loc", *([] if discrete else ["scale"])]
    usual = {"loc": 0, **({} if discrete else {"scale": 1})}
    given = {**usual, **dict(zip(names, frozen.args, strict=False)), **frozen.kwds}
    return {f"{ARGUMENT}{name}": _number(value) for name, value in given.items()}


def show_value(value: Any) -> str:
    """One short line, the same in every process."""
    text = ADDRESS.sub("", " ".join(_text(value).split()))
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def _text(value: Any) -> str:
    if not hasattr(value, "rvs"):
        return str(value)
    found = distribution_parts(value)
    kind, parts = found or (type(value), getattr(value, "__dict__", {}))
    name = kind.__name__
    shown = dict(parts)
    if found and _is_of_scipy(getattr(value, "dist", value)):  # its ends belong to its class
        name = name.removesuffix("_gen")
        shown = {key: item for key, item in parts.items() if key not in ("a", "b", "xtol")}
    usual = {f"{ARGUMENT}loc": 0, f"{ARGUMENT}scale": 1}
    shown = {
        key: item
        for key, item in shown.items()
        if not (type(item) is int and usual.get(key) == item)
    }
    texts = (f"{key.removeprefix(ARGUMENT)}={item}" for key, item in shown.items())
    return f"{name}({', '.join(texts)})"


def _number(value: Any) -> Any:
    """A number as it is compared: 1, 1.0 and an array that holds 1.0 alone are one."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_number(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is_of_scipy(value: Any) -> bool:
    return type(value).__module__.startswith("scipy.")
