"""Tables with named columns: CSV and Parquet, read by Arrow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource, default_columns
from vigmm.data.files import locate, reading, resolve_columns
from vigmm.data.protocol import Index, Rows2D, content_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CsvSource", "ParquetSource"]

_DELIMITERS = (b",", b";", b"\t")


class CsvSource:
    """A text table, read into memory; comma, semicolon or tab, whichever the first line has most of.

    The first line names the columns, unless it is all numbers (other than a count such as ``0,1,2``): then it
    is data and the columns are ``x0, x1, ...``. Empty cells and Arrow's usual marks (``NA``, ``nan``,
    ``null``) are NaN.

    Args:
        path: file, or ``pkg://package/file``.
        columns: names to read, in this order; by default every numeric column.
        name: what messages call it; the path by default.

    Attributes:
        ignored: columns left out because they hold no numbers; empty if `columns` was given.

    Raises:
        DataError: if there is no such file or column, a column is not numeric (naming its first such cell),
            or it is damaged or has no rows.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".csv.gz")
    options: ClassVar[tuple[str, ...]] = ("columns",)

    def __init__(
        self, path: str | Path, *, columns: tuple[str, ...] | None = None, name: str | None = None
    ) -> None:
        from pyarrow import csv

        self.name = str(path) if name is None else name
        file = str(locate(path))
        with reading(self.name, "csv"):
            parse = csv.ParseOptions(delimiter=_delimiter(file))
            with csv.open_csv(file, parse_options=parse) as head:
                names = tuple(head.schema.names)
            headless = _is_data(names)
            names = default_columns(len(names)) if headless else names
            if columns is not None:
                resolve_columns(columns, names, self.name)
            table = csv.read_csv(
                file,
                parse_options=parse,
                read_options=csv.ReadOptions(column_names=names if headless else None),
                convert_options=csv.ConvertOptions(include_columns=columns),
            )
            self._rows, self.ignored = _numbers(table, columns, self.name)
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the numbers read, not of the file's bytes."""
        return content_fingerprint(self)


class ParquetSource:
    """A Parquet file; only the columns wanted are read, into memory.

    Args:
        path: file, or ``pkg://package/file``.
        columns: names to read, in this order; by default every numeric column.
        name: what messages call it; the path by default.

    Attributes:
        ignored: columns left out because they hold no numbers; empty if `columns` was given.

    Raises:
        DataError: as for `CsvSource`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    options: ClassVar[tuple[str, ...]] = ("columns",)

    def __init__(
        self, path: str | Path, *, columns: tuple[str, ...] | None = None, name: str | None = None
    ) -> None:
        import pyarrow.parquet as pq

        self.name = str(path) if name is None else name
        file = locate(path)
        with reading(self.name, "parquet"), pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            if columns is not None:
                resolve_columns(columns, tuple(schema.names), self.name)
            numeric = [field.name for field in schema if _is_number(field.type)]
            # Without any numeric column, read all: the message shows what they hold.
            wanted = list(columns) if columns is not None else (numeric or None)
            self._rows, _ = _numbers(parquet.read(columns=wanted), columns, self.name)
            left = () if columns is not None else (name for name in schema.names if name not in numeric)
            self.ignored: tuple[str, ...] = tuple(left)
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the numbers read, not of the file's bytes."""
        return content_fingerprint(self)


def _delimiter(file: str) -> str:
    """The commonest candidate in the first line; a comma if there is none."""
    import pyarrow as pa

    with pa.input_stream(file) as stream:  # decompresses by suffix, as the reader does
        lines = stream.read(65_536).splitlines()
    return max(_DELIMITERS, key=lines[0].count).decode() if lines else ","


def _is_data(header: tuple[str, ...]) -> bool:
    """Whether a first line is numbers rather than names.

    A run of consecutive integers counts as names, for that is what data frames without names write.
    """
    try:
        values = [float(cell) for cell in header]
    except ValueError:
        return False
    run = all(value == values[0] + i for i, value in enumerate(values))
    return not (run and (values[0] in (0, 1) or len(values) >= 3))


def _is_number(kind: pa.DataType) -> bool:
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(test(inner) for test in tests)


def _numbers(
    table: pa.Table, columns: Iterable[str] | None, name: str
) -> tuple[ArraySource, tuple[str, ...]]:
    """The numeric columns of `table` as one array, and the names of the others."""
    names = tuple(table.column_names)
    if table.num_rows == 0:
        raise DataError(f"{name} has no rows (columns: {', '.join(names)})")
    numeric = tuple(name for name, kind in zip(names, table.schema.types, strict=True) if _is_number(kind))
    for column in columns if columns is not None else ():
        if column not in numeric:
            raise DataError(f"{name}: column {column!r} {_why_not_number(table.column(column))}")
    if not numeric:
        kinds = ", ".join(f"{n} ({kind})" for n, kind in zip(names, table.schema.types, strict=True))
        raise DataError(f"{name} has no numeric column; it has: {kinds}")
    chosen = tuple(columns) if columns is not None else numeric
    resolve_columns(chosen, names, name)  # a name that occurs twice cannot be told apart
    dtypes = [_numpy_type(table.column(column)) for column in chosen]
    array = np.empty((table.num_rows, len(chosen)), np.result_type(*dtypes))
    for position, (column, dtype) in enumerate(zip(chosen, dtypes, strict=True)):
        array[:, position] = _to_numpy(table.column(column), dtype)
    ignored = tuple(column for column in names if column not in chosen)
    return ArraySource(array, columns=chosen, name=name), ignored


def _numpy_type(column: pa.ChunkedArray) -> np.dtype[Any]:
    """What a column becomes: its own type, or a float where decimals or nulls need one."""
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    dtype: np.dtype[Any]
    if types.is_boolean(kind):
        dtype = np.dtype(np.uint8)
    elif types.is_decimal(kind):
        dtype = np.dtype(np.float64)
    else:
        dtype = np.dtype(kind.to_pandas_dtype())
    return dtype if dtype.kind == "f" or column.null_count == 0 else np.dtype(np.float64)


def _to_numpy(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    # Unsafe, for integers beyond 2**53 may round; Arrow turns the nulls of a float column into NaN.
    values: np.ndarray = pc.cast(column, pa.from_numpy_dtype(dtype), safe=False).to_numpy()
    return values


def _why_not_number(column: pa.ChunkedArray) -> str:
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
