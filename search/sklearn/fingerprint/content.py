"""Digests of Python values: equal content gives equal digests, in every process.

A pickle of a value also depends on how its arrays lie in memory, on which of its parts are one
object, on caches and on the state of random generators. None of these counts here.
"""

import copy
import copyreg
import functools
import hashlib
import inspect
import random
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import clone

from search.sklearn.fingerprint.distributions import distribution_parts
from search.sklearn.fingerprint.tables import table_parts

__all__ = ["digest"]

PLAIN = (type(None), bool, int, float, complex, str, bytes)  # their repr is their content
#: What moves on with each use: the state it is in now is no property of the value that holds it.
MOVING = (
    np.random.RandomState,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.SeedSequence,
    random.Random,
    Iterator,
)
#: Entries of a class that Python adds by itself.
ADDED = {
    "__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__",
    "_abc_impl",
}  # fmt: skip


def digest(value: Any) -> str:
    """Digest a value by its content.

    - An array counts by its shape, its data type and its numbers, in any memory order.
    - A frame counts by its labels, the kind of each column and its values, with any back end.
    - A sparse matrix counts by its shape, its data type and its numbers other than zero, in any
      format; entries that are stored as zeros are zeros.
    - A distribution counts by its class and parameters, without the state of its generator.
    - An estimator counts as its clone does: a fit leaves no trace.
    - A class or function counts by its name; without one that can be imported, by its code.

    Raises:
        Exception: whatever an object raises that cannot be taken apart, such as an open file.
    """
    return _Digest().of(value).hex()


class _Digest:
    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # id of each object around the current one -> its depth
        self._in_distribution = 0
        self._in_frozen = 0  # an estimator that `clone` leaves as it is

    def of(self, value: Any) -> bytes:
        if type(value) in PLAIN:
            return _node(type(value).__name__, repr(value))
        if id(value) in self._open:
            return _node("around", str(len(self._open) - self._open[id(value)]))
        self._open[id(value)] = len(self._open)
        try:
            return self._of_open(value)
        finally:
            del self._open[id(value)]

    def _of_open(self, value: Any) -> bytes:
        if isinstance(value, np.generic) and type(value.item()) in PLAIN:
            return self.of(value.item())
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        if scipy.sparse.issparse(value):
            return self._sparse(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value)
        if isinstance(value, Enum):
            return _node("enum", self.of(type(value)), value.name)
        if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType | ModuleType):
            return self._code(value)
        if isinstance(value, CodeType):
            return self._items((value.co_code, value.co_consts, value.co_names))
        if self._in_distribution and isinstance(value, MOVING):
            return _node("moving", self.of(type(value)))
        parts = table_parts(value)
        if parts is not None:
            return _node("table", self.of(type(value)), self.of(parts))
        if hasattr(value, "rvs"):
            return self._distribution(value)
        if hasattr(value, "get_params") and hasattr(value, "set_params"):
            return self._estimator(value)
        return self._object(value)

    def _items(self, value: Any) -> bytes:
        name = "" if type(value) in (list, tuple, set, frozenset) else type(value).__qualname__
        if isinstance(value, set | frozenset):
            return _node("set", name, *sorted(map(self.of, value)))
        kind = "tuple" if isinstance(value, tuple) else "list"
        if all(type(item) in PLAIN for item in value):  # quick, for data given as lists
            return _node(kind, name, "plain", repr(list(value)))
        return _node(kind, name, *map(self.of, value))

    def _mapping(self, value: Mapping[Any, Any]) -> bytes:
        name = "" if type(value) is dict else type(value).__qualname__
        return _node("map", name, *sorted(self.of(k) + self.of(v) for k, v in value.items()))

    def _array(self, value: Any) -> bytes:
        if isinstance(value, np.ma.MaskedArray):
            mask = np.ma.getmaskarray(value)
            filled = np.where(mask, np.zeros((), value.dtype), np.asarray(value))
            return _node("masked", self._array(mask), self._array(filled))
        array = np.asarray(value)
        shape, kind = repr(array.shape), array.dtype.kind
        if array.dtype.names:
            fields = (self._array(array[name]) for name in array.dtype.names)
            return _node("record", repr(array.dtype.names), *fields)
        if kind in "UT" or array.dtype.char in "gG":  # widths and padding do not count
            return _node(kind, shape, repr([str(item) for item in array.ravel().tolist()]))
        if kind == "O":
            items = array.ravel().tolist()
            if items and all(type(item) is str for item in items):
                return _node("U", shape, repr(items))
            return _node("O", shape, *map(self.of, items))
        name = array.dtype.name
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).ravel()
        if kind in "fc":
            with np.errstate(all="ignore"):
                flat = flat + flat.dtype.type(0)  # -0.0 becomes 0.0
            flat[np.isnan(flat)] = np.nan  # of all NaNs one
        return _node(name, shape, flat.view(np.uint8).data if flat.size else "")

    def _sparse(self, value: Any) -> bytes:
        rows = scipy.sparse.coo_array(value.reshape(1, -1) if value.ndim == 1 else value)
        rows = rows.tocsr()  # adds up what is stored for one place
        rows.eliminate_zeros()
        rows.sort_indices()
        arrays = (rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64))
        return _node("sparse", repr(value.shape), *map(self._array, arrays))

    def _distribution(self, value: Any) -> bytes:
        self._in_distribution += 1
        try:
            parts = distribution_parts(value)
            if parts is None:
                return self._object(value)
            return _node("distribution", self.of(parts[0]), self.of(parts[1]))
        finally:
            self._in_distribution -= 1

    def _estimator(self, value: Any) -> bytes:
        copied = value if self._in_frozen else clone(value, safe=False)
        frozen = copied is value
        self._in_frozen += frozen
        try:
            return self._object(copied)
        finally:
            self._in_frozen -= frozen

    def _object(self, value: Any) -> bytes:
        """An object by what it would be rebuilt from."""
        if hasattr(value, "reset_cache"):  # scipy's new distributions
            value = copy.copy(value)
            value.reset_cache()
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return _node("global", self.of(type(value)), reduced)
        function, args, state, items, pairs = (*reduced, None, None, None)[:5]
        return _node(
            "object",
            self.of(function),
            self.of(args),
            self.of(_attributes(type(value), state)),
            self.of(list(items or ())),
            self.of(list(pairs or ())),
        )

    def _code(self, value: Any) -> bytes:
        if isinstance(value, ModuleType):
            return _node("module", value.__name__)
        bound = getattr(value, "__self__", None)
        if bound is not None and not isinstance(bound, ModuleType | type):
            return _node("method", self.of(bound), value.__name__)
        name = f"{value.__module__}.{value.__qualname__}"
        if _is_importable(value):
            return _node("name", name)
        if isinstance(value, type):
            own = {key: item for key, item in vars(value).items() if key not in ADDED}
            own = {key: item for key, item in own.items() if not inspect.isdatadescriptor(item)}
            return _node("class", name, *map(self.of, value.__bases__), self.of(own))
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
            return _node("function", name, *map(self.of, parts))
        return self._object(value)


def _node(kind: str, *parts: str | bytes | memoryview) -> bytes:
    found = hashlib.blake2b(kind.encode(), digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(b"|%d|" % len(data))
        found.update(data)
    return found.digest()


def _attributes(kind: type, state: Any) -> Any:
    """The state of an object without caches and without the version that wrote it."""
    if not isinstance(state, dict):
        return state
    return {key: item for key, item in state.items() if not _is_incidental(kind, key)}


def _is_incidental(kind: type, name: Any) -> bool:
    if name == "_sklearn_version":
        return True
    found = inspect.getattr_static(kind, name, None) if isinstance(name, str) else None
    return isinstance(found, functools.cached_property)


def _is_importable(value: Any) -> bool:
    found: Any = sys.modules.get(value.__module__ or "builtins")
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value
