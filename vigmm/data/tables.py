"""A table with named columns in one file: CSV and Parquet, read by Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vigmm.data.csv_parts import CsvFormat
from vigmm.data.files import locate
from vigmm.data.parquet_parts import ParquetFormat
from vigmm.data.parts import Parts
from vigmm.data.protocol import Index, Rows2D
from vigmm.data.table_parts import TableParts

__all__ = ["CsvSource", "ParquetSource"]


class CsvSource:
    """A text table; comma, semicolon or tab, whichever the first line has most of.

    The first line names the columns, unless it is all numbers (other than a count such as ``0,1,2``): then it
    is data and the columns are ``x0, x1, ...``. Empty cells and Arrow's usual marks (``NA``, ``nan``,
    ``null``) are NaN.

    One pass when it is opened finds types and where blocks of lines begin; later only blocks that hold rows
    asked for are parsed, again if they are too many to be kept. A compressed file has one block, itself.

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
        self.name = str(path) if name is None else name
        rows = TableParts([locate(path)], format=CsvFormat(columns), columns=columns, name=self.name)
        self._rows: Parts = rows
        self.piece_ends = rows.piece_ends
        self.dim, self.dtype, self.columns, self.ignored = rows.dim, rows.dtype, rows.columns, rows.ignored

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.parts.Parts.fingerprint`."""
        return self._rows.fingerprint()


class ParquetSource:
    """A Parquet file; only the wanted columns of row groups that hold rows asked for are read.

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
        self.name = str(path) if name is None else name
        rows = TableParts([locate(path)], format=ParquetFormat(), columns=columns, name=self.name)
        self._rows: Parts = rows
        self.piece_ends = rows.piece_ends
        self.dim, self.dtype, self.columns, self.ignored = rows.dim, rows.dtype, rows.columns, rows.ignored

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.parts.Parts.fingerprint`."""
        return self._rows.fingerprint()
