"""Tables in one file, or in many that agree on their columns; a format says how pieces are found and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.columns import as_array, is_number, numpy_type, why_not_number
from vigmm.data.files import locate, reading, resolve_columns
from vigmm.data.parts import Parts
from vigmm.data.protocol import Index, Rows2D
from vigmm.data.remote import AnyFile, state_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableFormat", "Tables", "open_tables"]

Tables: TypeAlias = str | Path | Sequence[AnyFile]
"""One file by its path (or ``pkg://package/file``), or many."""


class TableFormat(Protocol):
    """A kind of file with a schema, and pieces that are read one at a time.

    Attributes:
        kind: what messages call such a file.
        unit: what they call a piece; None where it is the whole file.
    """

    kind: str
    unit: str | None

    def schema(self, file: AnyFile) -> pa.Schema:
        """Names and types of the columns."""
        ...

    def sizes(self, file: AnyFile) -> list[int]:
        """Rows of every piece, without reading them."""
        ...

    def nulls(self, file: AnyFile, columns: list[str]) -> set[str]:
        """Those of the columns that have missing cells."""
        ...

    def read(self, file: AnyFile, columns: list[str], piece: int | None) -> pa.Table:
        """One piece, or the whole file."""
        ...


@dataclass(frozen=True)
class _Rows:
    """A piece in Arrow's form; only the rows asked for become numbers."""

    table: pa.Table
    columns: tuple[str, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: Index) -> Rows2D:
        if isinstance(index, slice):
            start, stop, _ = index.indices(self.table.num_rows)
            chosen = self.table.slice(start, stop - start)
        else:
            chosen = self.table.take(index)
        return as_array(chosen, self.columns, self.dtype)


@dataclass(frozen=True)
class _TablePiece:
    file: AnyFile
    first: int
    rows: int
    number: int
    types: Mapping[str, pa.DataType]
    format: TableFormat
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    state: tuple[int, int]

    def open(self) -> _Rows:
        unit = self.format.unit
        where = str(self.file) if unit is None else f"{unit} {self.number} of {self.file}"
        with reading(where, self.format.kind):
            table = self.format.read(self.file, list(self.columns), self.number)
            found = {name: table.schema.field(name).type for name in self.columns}
            gaps = self.dtype.kind != "f" and any(column.null_count for column in table.columns)
            same = table.num_rows == self.rows and found == self.types and state_of(self.file) == self.state
            if gaps or not same:
                raise DataError(f"{self.file} has changed since the run began; start again")
        return _Rows(table, self.columns, self.dtype)


def open_tables(
    where: Tables, *, format: TableFormat, columns: tuple[str, ...] | None, name: str | None
) -> Parts:
    """Rows of tables, in the order of the files; columns are taken by name, whatever their order in a file.

    Args:
        where: the files of the tables, or the path of one.
        format: what kind of file they are.
        columns: names to read, in this order; by default every numeric column, and then all files must have
            the same columns.
        name: what messages call the whole; the path by default.

    Returns:
        The rows; `ignored` are columns left out because they hold no numbers, none if `columns` was given.

    Raises:
        DataError: naming the file and the column, if a file cannot be read, lacks a column or holds it as
            something that is no number.
    """
    one_file = isinstance(where, str | Path)
    files = [locate(where)] if isinstance(where, str | Path) else where
    name = str(where) if name is None else name
    names: tuple[str, ...] = ()
    found: list[tuple[AnyFile, int, int, int, dict[str, pa.DataType]]] = []
    dtypes: list[np.dtype[Any]] = []
    first: pa.Schema | None = None
    sizes: dict[AnyFile, list[int]] = {}
    states: dict[AnyFile, tuple[int, int]] = {}
    for file in files:
        if isinstance(file, Path):
            locate(file)
        with reading(str(file), format.kind):
            states[file] = state_of(file)
            sizes[file] = format.sizes(file)
    # A part without rows need not agree with the others: a text file of this kind has no types.
    files = [file for file in files if any(sizes[file])] or files[:1]
    for file in files:
        with reading(str(file), format.kind):
            schema = format.schema(file)
            if first is None:
                first, names = schema, _chosen(schema, columns, str(file))
            if columns is None:
                _check_same(schema, first, file, files[0])
            resolve_columns(names, tuple(schema.names), str(file))
            _check_numeric(schema, first, names, file, files[0], format)
            types = {column: schema.field(column).type for column in names}
            # A missing cell turns whole numbers into floats; a float column is one in any case.
            whole = [c for c in names if numpy_type(types[c], nulls=False).kind != "f"]
            nulls = format.nulls(file, whole) if whole else set()
            dtypes += [numpy_type(kind, nulls=column in nulls) for column, kind in types.items()]
            start = 0
            for number, rows in enumerate(sizes[file]):
                found.append((file, start, rows, number, types))
                start += rows
    dtype = np.result_type(*dtypes)
    ignored = tuple(n for n in (first.names if first else ()) if columns is None and n not in names)
    pieces = [
        _TablePiece(file, start, rows, number, types, format, names, dtype, states[file])
        for file, start, rows, number, types in found
    ]
    return Parts(pieces, columns=names, dtype=dtype, name=name, ignored=ignored, one_file=one_file)


def _chosen(schema: pa.Schema, columns: tuple[str, ...] | None, name: str) -> tuple[str, ...]:
    if columns is not None:
        return columns
    numeric = tuple(field.name for field in schema if is_number(field.type))
    resolve_columns(numeric, tuple(schema.names), name)  # a name that occurs twice cannot be told apart
    if not numeric:
        kinds = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise DataError(f"{name} has no numeric column; it has: {kinds}")
    return numeric


def _check_same(schema: pa.Schema, first: pa.Schema, file: AnyFile, first_file: AnyFile) -> None:
    """Without a choice of columns, a column more or less is a mistake that nobody should have to guess."""
    remedy = "Choose the columns that all files have with columns, or take the file out"
    known = dict(zip(first.names, first.types, strict=True))
    for column in known:
        if column not in schema.names:
            raise DataError(f"{file} has no column {column!r}, which {first_file} has. {remedy}")
    for column, kind in zip(schema.names, schema.types, strict=True):
        if column not in known:
            raise DataError(f"{file} has a column {column!r}, which {first_file} has not. {remedy}")
        if is_number(kind) and not is_number(known[column]):
            raise DataError(
                f"{file}: column {column!r} is {kind}, but {known[column]} in {first_file}. {remedy}"
            )


def _check_numeric(
    schema: pa.Schema,
    first: pa.Schema,
    names: tuple[str, ...],
    file: AnyFile,
    first_file: AnyFile,
    format: TableFormat,
) -> None:
    for column in names:
        if is_number(schema.field(column).type):
            continue
        why = why_not_number(format.read(file, [column], None).column(column))
        kind = first.field(column).type
        other = f" (in {first_file} it is {kind})" if is_number(kind) else ""
        raise DataError(f"{file}: column {column!r} {why}{other}")
