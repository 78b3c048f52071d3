"""Values of candidates and results of folds as JSON, and back without a loss."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import RandomState

from search.errors import SpecError

__all__ = ["decode", "encode"]

TAG = "$"  # the first character of a key that says what an object of one key stands for


def encode(value: Any) -> Any:
    """A value as JSON; `decode` gives an equal one of the same type.

    Numbers, texts, bytes, None, arrays and numpy's scalars without objects, lists, tuples, sets and
    dicts of these, and a RandomState.

    Raises:
        SpecError: the value is of another type.
    """
    kind = type(value)
    if kind in (bool, int, str, type(None)):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is complex:
        return {"$complex": [encode(value.real), encode(value.imag)]}
    if kind is bytes:
        return {"$bytes": value.hex()}
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {f"${kind.__name__}": [encode(item) for item in value]}
    if kind is dict:
        if all(type(key) is str and not key.startswith(TAG) for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {"$dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, np.generic) and value.dtype.kind in "biufcSUmM":
        return {"$scalar": _encode_array(np.asarray(value))}
    if kind in (np.ndarray, np.memmap) and value.dtype.kind in "biufcSUmM":
        return {"$array": _encode_array(value)}
    if kind is RandomState:
        name, keys, *rest = value.get_state(legacy=True)
        return {"$RandomState": [name, np.asarray(keys).tolist(), *rest]}
    raise SpecError(
        f"a storage keeps numbers, texts, None, arrays, and lists, tuples and dicts of these, got "
        f"a {kind.__module__}.{kind.__qualname__}; list the objects instead of drawing them"
    )


def decode(value: Any) -> Any:
    """What `encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or not next(iter(value)).startswith(TAG):
        return {key: decode(item) for key, item in value.items()}
    ((tag, content),) = value.items()
    return _DECODERS[tag.removeprefix(TAG)](content)


def _encode_array(array: Any) -> list[Any]:
    """Data type, shape and bytes, in the order of C."""
    kind = array.dtype.newbyteorder("<")
    return [kind.str, list(array.shape), np.asarray(array, kind).tobytes().hex()]


def _decode_array(content: Any) -> Any:
    kind, shape, data = content
    array = np.frombuffer(bytes.fromhex(data), np.dtype(kind)).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))  # a copy, which may be written to


def _decode_state(content: Any) -> RandomState:
    state = RandomState()
    state.set_state(tuple(content))
    return state


_DECODERS = {
    "float": float,
    "complex": lambda parts: complex(*map(decode, parts)),
    "bytes": bytes.fromhex,
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "scalar": lambda content: _decode_array(content)[()],
    "array": _decode_array,
    "RandomState": _decode_state,
}
