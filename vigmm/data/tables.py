"""Tables with named columns: CSV and Parquet, read by Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vigmm.data.arrays import default_columns
from vigmm.data.columns import is_number, numbers
from vigmm.data.files import locate, reading, resolve_columns
from vigmm.data.protocol import Index, Rows2D, content_fingerprint

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

    prefixes: ClassVar[tuple[str, ...]] = ()
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
            self._rows, self.ignored = numbers(table, columns, self.name)
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

    prefixes: ClassVar[tuple[str, ...]] = ()
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
            numeric = [field.name for field in schema if is_number(field.type)]
            # Without any numeric column, read all: the message shows what they hold.
            wanted = list(columns) if columns is not None else (numeric or None)
            self._rows, _ = numbers(parquet.read(columns=wanted), columns, self.name)
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
