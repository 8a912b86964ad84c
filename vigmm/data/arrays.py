"""Rows that are already in memory (or mapped into it): arrays, lists and tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from vigmm.core.errors import DataError, EmptyError
from vigmm.data.columns import numbers
from vigmm.data.files import resolve_columns
from vigmm.data.frames import arrow_table, names_of
from vigmm.data.protocol import Index, Rows2D, Source, content_fingerprint, place_of

__all__ = ["ArraySource", "SelectColumns", "as_rows", "default_columns"]


class ArraySource:
    """An array, list of rows or table; kept by reference, never copied or written to.

    Anything NumPy can read is welcome: JAX arrays, frames with ``__array__``, integers, booleans, half
    precision, any byte order, any strides. One dimension is one column. Tables of pandas, polars, Arrow and
    others that speak Arrow's C interface are read as files are: columns without numbers are left out, a null
    is NaN. Where their columns have different types, their numbers are copied.

    Args:
        data: the rows.
        columns: names; by default those of the table, else ``x0, x1, ...``. Of a table that has columns of
            these names, they choose.
        name: what messages call it.
        ignored: columns that whoever gives the rows has left out because they hold no numbers.

    Attributes:
        ignored: these, or those of a table that were left out here; empty if `columns` chose.

    Raises:
        DataError: if it is not a non-empty table of real numbers.

    Example:
        >>> ArraySource([[1, 2], [3, 4], [5, 6]])[1:].tolist()
        [[3, 4], [5, 6]]
    """

    def __init__(
        self,
        data: Any,
        *,
        columns: tuple[str, ...] | None = None,
        name: str = "x",
        ignored: tuple[str, ...] = (),
    ) -> None:
        self.name, self.ignored = name, ignored
        table = arrow_table(data, name)
        if table is None:
            found = columns if columns is not None else names_of(data)
            self._array = as_rows(data, name, columns=found)
        else:
            chosen = columns if columns is not None and set(columns) <= set(table.column_names) else None
            self._array, found, left = numbers(table, chosen, name)
            if chosen is None:
                self.ignored = left
                found = columns if columns is not None else found
        self.dim = self._array.shape[1]
        self.dtype: np.dtype[Any] = self._array.dtype.newbyteorder("=")
        self.columns = found if found is not None else default_columns(self.dim)
        if len(self.columns) != self.dim:
            raise DataError(f"{name} has {self.dim} columns, but {len(self.columns)} column names")

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, index: Index) -> Rows2D:
        return self._array[index].astype(self.dtype, copy=False)  # acts only where the byte order is foreign

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.protocol.content_fingerprint`."""
        return content_fingerprint(self)


class SelectColumns:
    """Some columns of another source, by name and in the order given.

    Raises:
        DataError: if a column does not exist, with the nearest name.
    """

    def __init__(self, source: Source, columns: tuple[str, ...]) -> None:
        self._source, self.columns = source, columns
        self._positions = resolve_columns(columns, source.columns, source.name)
        self.name, self.dtype, self.dim = source.name, source.dtype, len(columns)
        self.kept_bytes: int = getattr(source, "kept_bytes", 0)
        ends = getattr(source, "piece_ends", None)
        if ends is not None:
            self.piece_ends = ends

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._source[index][:, self._positions]

    def place(self, row: int) -> str:
        """How a message names a row; see `vigmm.data.protocol.place_of`."""
        return place_of(self._source, row)

    def fingerprint(self) -> str:
        """Digest of the chosen columns only."""
        return content_fingerprint(self)


def default_columns(dim: int) -> tuple[str, ...]:
    """Names ``x0, x1, ...`` for columns that have none."""
    return tuple(f"x{i}" for i in range(dim))


def as_rows(data: Any, name: str, *, columns: tuple[str, ...] | None = None) -> Rows2D:
    """`data` as a two-dimensional array of real numbers, without a copy where NumPy needs none.

    Raises:
        DataError: naming what is wrong (dimensions, type, a cell that is no number) and the remedy.
    """
    if hasattr(data, "toarray") and hasattr(data, "nnz"):
        raise DataError(f"{name} is a sparse matrix; make it dense with .toarray()")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise DataError(f"{name} has masked values; drop those rows or fill them with .filled(...)")
    try:
        array = np.asarray(data)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} cannot be made an array: {error}. All rows need the same length") from error
    if array.dtype.names is not None:
        raise DataError(
            f"{name} is a structured array with fields {', '.join(array.dtype.names)}; "
            f"flatten it with numpy.lib.recfunctions.structured_to_unstructured"
        )
    if array.ndim == 1 and array.dtype.kind in "buif":
        array = array[:, None]
    if array.ndim not in (1, 2):
        raise DataError(f"{name} has shape {array.shape}, but rows x columns are needed: reshape it")
    if array.dtype.name == "bfloat16":  # a JAX type that NumPy itself does not count as a number
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} {_why_not_numbers(array, columns)}")
    if array.shape[0] == 0 or array.shape[1] == 0:
        kind = EmptyError if array.shape[1] else DataError
        raise kind(f"{name} is empty: it has {array.shape[0]} rows and {array.shape[1]} columns")
    return array


def _why_not_numbers(array: np.ndarray, columns: tuple[str, ...] | None) -> str:
    """What an array of another type holds, with the first cell that is no number."""
    if array.dtype.kind == "c":
        return "holds complex numbers; give real and imaginary parts as two columns"
    if array.dtype.kind not in "OUS":
        return f"holds {array.dtype}, not numbers; convert it first"
    table = array.reshape(len(array), -1)
    width = table.shape[1]
    names = columns if columns is not None and len(columns) == width else default_columns(width)
    for (row, column), cell in np.ndenumerate(table):
        if not isinstance(cell, (int, float, np.number, np.bool_)):
            return (
                f"is not numeric: row {row}, column {names[column]!r} holds {cell!r} (rows are counted "
                f"from 0). Leave that column out or encode it as numbers"
            )
    return f"is an array of {array.dtype} that holds numbers; convert it with .astype(float)"
