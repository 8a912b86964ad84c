"""Columns of an Arrow table as numbers, or why they are none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vigmm.core.errors import DataError, EmptyError
from vigmm.data.files import resolve_columns
from vigmm.data.protocol import Rows2D

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_array", "is_number", "numbers", "numpy_type", "why_not_number"]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers (categories of numbers included)."""
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(test(inner) for test in tests)


def numbers(
    table: pa.Table, columns: Iterable[str] | None, name: str
) -> tuple[Rows2D, tuple[str, ...], tuple[str, ...]]:
    """Columns of `table`, by default the numeric ones, as one array; their names; and those of the others."""
    names = tuple(table.column_names)
    if table.num_rows == 0:
        raise EmptyError(f"{name} has no rows (columns: {', '.join(names)}); give data with rows")
    numeric = tuple(name for name, kind in zip(names, table.schema.types, strict=True) if is_number(kind))
    chosen = tuple(columns) if columns is not None else numeric
    resolve_columns(chosen, names, name)  # a name that occurs twice cannot be told apart
    for column in chosen:
        if column not in numeric:
            raise DataError(f"{name}: column {column!r} {why_not_number(table.column(column))}")
    if not numeric:
        kinds = ", ".join(f"{n} ({kind})" for n, kind in zip(names, table.schema.types, strict=True))
        raise DataError(f"{name} has no numeric column; it has: {kinds}. Encode some as numbers")
    dtypes = [numpy_type(table.column(c).type, nulls=table.column(c).null_count > 0) for c in chosen]
    array = as_array(table, chosen, np.result_type(*dtypes))
    ignored = tuple(column for column in names if column not in chosen)
    return array, chosen, ignored


def numpy_type(kind: pa.DataType, *, nulls: bool) -> np.dtype[Any]:
    """What a numeric column becomes: its own type, or a float where decimals or nulls need one."""
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    dtype: np.dtype[Any]
    if types.is_boolean(inner):
        dtype = np.dtype(np.uint8)
    elif types.is_decimal(inner):
        dtype = np.dtype(np.float64)
    else:
        dtype = np.dtype(inner.to_pandas_dtype())
    return dtype if dtype.kind == "f" or not nulls else np.dtype(np.float64)


def as_array(table: pa.Table, columns: tuple[str, ...], dtype: np.dtype[Any]) -> Rows2D:
    """Numeric columns, in this order, as one array of a type that `numpy_type` allows for each of them."""
    array = np.empty((table.num_rows, len(columns)), dtype)
    for position, name in enumerate(columns):
        column = table.column(name)
        array[:, position] = _to_numpy(column, numpy_type(column.type, nulls=column.null_count > 0))
    return array


def _to_numpy(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    # Unsafe, for integers beyond 2**53 may round; Arrow turns the nulls of a float column into NaN.
    values: np.ndarray = pc.cast(column, pa.from_numpy_dtype(dtype), safe=False).to_numpy()
    return values


def why_not_number(column: pa.ChunkedArray) -> str:
    """What a non-numeric column holds, with its first cell that is no number."""
    from pyarrow import csv

    missing = {None, *csv.ConvertOptions().null_values}
    first: tuple[int, Any] | None = None
    for row, cell in enumerate(item for chunk in column.iterchunks() for item in chunk.to_pylist()):
        if isinstance(cell, (list, dict)) or cell not in missing:
            first = (row, cell) if first is None else first
            try:
                float(cell)
            except (TypeError, ValueError):
                first = (row, cell)
                break
    if first is None:
        return "has no values at all; leave it out"
    row, cell = first
    return (
        f"is not numeric but {column.type}: row {row} holds {cell!r} (rows are counted from 0, a header not "
        f"included). Leave it out, mend that cell or encode the column as numbers"
    )
