"""The constructor of a scikit-learn estimator, generated from records of parameters.

An estimator with 20 hyperparameters needs an explicit keyword argument for each, its default and
an entry of its docstring. All three stand at the field of the record already, see `parameters`.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fmnist_hpo.parameters import Parameter

__all__ = ["arguments", "constructor", "describe", "to_flat"]


def arguments(known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The constructor's arguments and their defaults.

    A number of layers is None by default: it follows from the number of values given.
    """
    defaults: dict[str, Any] = {}
    for name, one in known.items():
        if one.count is not None:
            defaults.setdefault(one.count.name, None)
        defaults[name] = one.flat_default
    return defaults


def constructor(cls: type, defaults: Mapping[str, Any]) -> Any:
    """An `__init__` for `cls` that takes keyword-only arguments and stores them unchanged.

    scikit-learn's `get_params` and `clone` read its signature.
    """
    keyword, itself = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter("self", itself),
            *(inspect.Parameter(name, keyword, default=defaults[name]) for name in defaults),
        ]
    )

    def __init__(self: Any, *args: Any, **params: Any) -> None:
        bound = signature.bind(self, *args, **params)  # raises TypeError as a call does
        for name, default in defaults.items():
            setattr(self, name, bound.arguments.get(name, default))

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def describe(known: Mapping[str, Parameter]) -> str:
    """The entries of the docstring's section Parameters, in numpydoc's format."""
    return "\n".join(_entries(known))


def _entries(known: Mapping[str, Parameter]) -> Iterator[str]:
    counted: set[str] = set()
    for name, one in known.items():
        if one.count is not None and one.count.name not in counted:
            counted.add(one.count.name)
            yield f"{one.count.name} : int, default=None"
            yield f"    {one.count.doc} None for one per given value, else {one.count.default}."
        kind, default = one.rule.python_type, one.flat_default
        sequence = f" or sequence of {kind}" if one.count is not None else ""
        yield f"{name} : {kind}{sequence}, default={default!r}"
        series = one.count is not None and default is None
        yield f"    {one.doc}" + (
            f" None for {', '.join(map(str, one.default[:3]))}, ..." if series else ""
        )


def to_flat(known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a constructor's arguments to the flat parameters of a study file.

    A sequence becomes one parameter per layer (`dropout_0`, `dropout_1`, ...). Left out are
    arguments that are None, and those that the value of another one makes idle, which a study file
    refuses.

    Args:
        given: the value of each of `arguments`.
    """
    params: dict[str, Any] = {}
    for name, one in known.items():
        value = given[name]
        if one.when is not None and given[one.when[0]] != one.when[1]:
            continue
        if one.count is not None and given[one.count.name] is not None:
            params[one.count.name] = _plain(given[one.count.name])
        several = isinstance(value, Sequence) and not isinstance(value, str)
        if isinstance(value, np.ndarray):
            several = value.ndim > 0
        if one.count is not None and several:
            params |= {f"{name}_{index}": _plain(each) for index, each in enumerate(value)}
            params.setdefault(one.count.name, len(value))
        elif value is not None:
            params[name] = _plain(value)
    return params


def _plain(value: Any) -> Any:
    """A scalar of NumPy as Python's own, as a search over NumPy arrays proposes them."""
    scalar = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if scalar else value
