"""Frames and columns of pandas, polars and others as arrays and lists, which hold their content."""

import sys
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

__all__ = ["table_parts"]


def table_parts(value: Any) -> Any:
    """What a frame or a column consists of: labels, kinds of columns, values.

    How pandas lays out its blocks does not count, nor which back end holds a column: numpy,
    masked arrays or Arrow.

    Returns:
        Nested tuples of arrays, lists and texts; None for what is neither.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        parts = _of_pandas(value, pandas)
        if parts is not None:
            return parts
    if type(value).__module__.startswith(("builtins", "sklearn.", "numpy", "scipy.")):
        return None
    native = nw.from_native(value, pass_through=True, eager_only=True, allow_series=True)
    if isinstance(native, nw.DataFrame):
        return [(name, *_of_narwhals(native[name])) for name in native.columns]
    if isinstance(native, nw.Series):
        return (native.name, *_of_narwhals(native))
    return None


def _of_pandas(value: Any, pd: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        columns = [_pandas_values(value.iloc[:, at], pd) for at in range(value.shape[1])]
        return (_pandas_labels(value.index, pd), _pandas_labels(value.columns, pd), columns)
    if isinstance(value, pd.Series):
        return (_pandas_labels(value.index, pd), value.name, _pandas_values(value, pd))
    if isinstance(value, pd.Index):
        return _pandas_labels(value, pd)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _pandas_values(pd.Series(value), pd)
    return None


def _pandas_labels(index: Any, pd: Any) -> Any:
    levels = [index.get_level_values(at) for at in range(index.nlevels)]
    return [(level.name, _pandas_values(level, pd)) for level in levels]


def _pandas_values(column: Any, pd: Any) -> Any:
    """The kind of a column, where it is missing, and its values."""
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        codes = np.asarray(getattr(column, "cat", column).codes, dtype=np.int64)
        return ("category", kind.ordered, _pandas_values(kind.categories, pd), codes)
    if isinstance(kind, pd.SparseDtype):
        dense = pd.Series(np.asarray(column, dtype=kind.subtype))
        return ("sparse", str(kind.fill_value), _pandas_values(dense, pd))
    missing = np.asarray(column.isna(), dtype=bool)
    number = getattr(kind, "numpy_dtype", kind)
    if isinstance(number, np.dtype) and number.kind in "biufcmM":
        if number.kind in "mM":
            values = column.to_numpy(dtype=number)
        else:
            values = column.to_numpy(dtype=number, na_value=np.nan if number.kind in "fc" else 0)
        return (number.name, missing, values)
    items = [None if gone else item for gone, item in zip(missing, column, strict=True)]
    if all(item is None or isinstance(item, str) for item in items):
        return ("text", [item if item is None else str(item) for item in items])
    if isinstance(number, np.dtype):
        return ("object", items)
    return (str(kind), [item if item is None else str(item) for item in items])


def _of_narwhals(column: Any) -> tuple[Any, ...]:
    if column.dtype.is_numeric() and not column.null_count():
        return (str(column.dtype), column.to_numpy())
    return (str(column.dtype), column.to_list())
