"""Text tables, read block by block: one pass finds where each block ends and what its columns hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vigmm.data.arrays import default_columns
from vigmm.data.files import resolve_columns
from vigmm.data.parts import Parts
from vigmm.data.remote import AnyFile, filesystem
from vigmm.data.table_parts import Tables, open_tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CsvFormat", "open_csv"]

BLOCK = 1 << 24
"""Bytes that are parsed together."""

_KEPT = 1 << 26
_DELIMITERS = (b",", b";", b"\t")


@dataclass(frozen=True)
class _Block:
    """Whole lines that follow each other: the first byte, how many, and how many rows they hold."""

    start: int
    size: int
    rows: int


@dataclass(frozen=True)
class _Scan:
    """What one pass over a file tells; `names` are given where the first line is data."""

    delimiter: str
    names: tuple[str, ...]
    headless: bool
    types: dict[str, pa.DataType]
    nulls: set[str]
    blocks: tuple[_Block, ...]


class CsvFormat:
    """CSV as a `TableFormat`; a piece is a block of some MB, or the whole of a compressed file.

    Types are those that all blocks agree on, as if the file were read at once. What was parsed on the way is
    kept if all of it is little (64 MiB), so that a small file is parsed once.

    Args:
        columns: names that will be asked for; by default any.
    """

    kind = "csv"
    unit: str | None = "block"

    def __init__(self, columns: tuple[str, ...] | None = None) -> None:
        self._columns = columns
        self._scans: dict[AnyFile, _Scan] = {}
        self._tables: dict[tuple[AnyFile, int], pa.Table] = {}
        self._bytes = 0

    def schema(self, file: AnyFile) -> pa.Schema:
        """Names and types of the columns; of those that will be asked for, if that was said."""
        import pyarrow as pa

        scan = self._scan(file)
        # A name that occurs twice is two fields, for the caller to refuse.
        return pa.schema([(name, scan.types[name]) for name in scan.names if name in scan.types])

    def sizes(self, file: AnyFile) -> list[int]:
        """Rows of every block."""
        return [block.rows for block in self._scan(file).blocks]

    def nulls(self, file: AnyFile, columns: list[str]) -> set[str]:
        """Columns with empty cells."""
        return self._scan(file).nulls & set(columns)

    def read(self, file: AnyFile, columns: list[str], piece: int | None) -> pa.Table:
        """One block, or the whole file."""
        import pyarrow as pa

        scan = self._scan(file)
        if piece is None:
            return pa.concat_tables([self.read(file, columns, i) for i in range(len(scan.blocks))])
        kept = self._tables.get((file, piece))
        found = self._parse(file, scan, piece, columns) if kept is None else kept.select(columns)
        if kept is not None:
            found = found.cast(pa.schema([(name, scan.types[name]) for name in columns]))
        return found

    def _parse(self, file: AnyFile, scan: _Scan, piece: int, columns: list[str]) -> pa.Table:
        block = scan.blocks[piece]
        if _is_compressed(file):
            content = b"".join(_lines(file))
        else:
            system, path = filesystem(file)
            with system.open_input_file(path) as stream:
                content = stream.read_at(block.size, block.start)
        types = {name: scan.types[name] for name in columns}
        names = scan.names if scan.headless or block.start > 0 else None
        return _table(content, scan.delimiter, names, columns, types)

    def _scan(self, file: AnyFile) -> _Scan:
        if file not in self._scans:
            self._scans[file] = self._scanned(file)
        return self._scans[file]

    def _scanned(self, file: AnyFile) -> _Scan:
        import pyarrow as pa

        delimiter, names, headless = _head(file)
        if self._columns is not None:
            resolve_columns(self._columns, names, str(file))
        wanted = None if self._columns is None else list(self._columns)
        found: dict[str, set[Any]] = {}
        nulls: set[str] = set()
        blocks: list[_Block] = []
        start = rows = 0
        for number, content in enumerate(_lines(file)):
            given = names if headless or start > 0 else None
            try:
                table = _table(content, delimiter, given, wanted, None)
            except (pa.ArrowException, ValueError) as error:
                if rows == 0:
                    raise
                raise ValueError(f"in the lines after row {rows - 1}: {error}") from error
            for name, kind, column in zip(table.column_names, table.schema.types, table.columns, strict=True):
                found.setdefault(name, set()).add(kind)
                nulls |= {name} if column.null_count else set()
            self._keep((file, number), table)
            blocks.append(_Block(start, len(content), table.num_rows))
            start, rows = start + len(content), rows + table.num_rows
        types = {name: _common(kinds) if rows else pa.float64() for name, kinds in found.items()}
        return _Scan(delimiter, names, headless, types, nulls, tuple(blocks))

    def _keep(self, key: tuple[AnyFile, int], table: pa.Table) -> None:
        self._bytes += table.nbytes
        if self._bytes <= _KEPT:
            self._tables[key] = table
        else:
            self._tables.clear()


def open_csv(where: Tables, *, columns: tuple[str, ...] | None = None, name: str | None = None) -> Parts:
    """A text table; comma, semicolon or tab, whichever the first line has most of.

    The first line names the columns, unless it is all numbers (other than a count such as ``0,1,2``): then it
    is data and the columns are ``x0, x1, ...``. Empty cells and Arrow's usual marks (``NA``, ``nan``,
    ``null``) are NaN.

    One pass when it is opened finds types and where blocks of lines begin; later only blocks that hold rows
    asked for are parsed, again if they are too many to be kept. A compressed file has one block, itself.

    Args:
        where: one file, or many.
        columns: names to read, in this order; by default every numeric column.
        name: what messages call it; the path by default.

    Raises:
        DataError: if there is no such file or column, a column is not numeric (naming its first such cell),
            or it is damaged or has no rows.
    """
    return open_tables(where, format=CsvFormat(columns), columns=columns, name=name)


def _is_compressed(file: AnyFile) -> bool:
    return str(file).lower().endswith(".gz")


def _lines(file: AnyFile) -> Iterator[bytes]:
    """The file in blocks that end with a line; a compressed one, which cannot be entered later, in one."""
    system, path = filesystem(file)
    if _is_compressed(file):
        with system.open_input_stream(path, compression="gzip") as stream:
            yield stream.read()
        return
    with system.open_input_file(path) as stream:
        rest = b""
        while content := stream.read(BLOCK):
            content = rest + content
            end = content.rfind(b"\n") + 1
            rest = content[end:]
            if end:
                yield content[:end]
        if rest:
            yield rest


def _head(file: AnyFile) -> tuple[str, tuple[str, ...], bool]:
    """Delimiter, names, and whether there are none in the file, by its first lines."""
    from pyarrow import csv

    system, path = filesystem(file)
    how = {"compression": "gzip" if _is_compressed(file) else None}
    with system.open_input_stream(path, **how) as stream:
        lines = stream.read(65_536).splitlines()
    delimiter = max(_DELIMITERS, key=lines[0].count).decode() if lines else ","
    parse = csv.ParseOptions(delimiter=delimiter)
    with system.open_input_stream(path, **how) as stream, csv.open_csv(stream, parse_options=parse) as head:
        names = tuple(head.schema.names)
    headless = _is_data(names)
    return delimiter, default_columns(len(names)) if headless else names, headless


def _table(
    content: bytes,
    delimiter: str,
    names: Sequence[str] | None,
    columns: list[str] | None,
    types: dict[str, Any] | None,
) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    return csv.read_csv(
        pa.BufferReader(content),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        read_options=csv.ReadOptions(column_names=names),
        convert_options=csv.ConvertOptions(include_columns=columns, column_types=types),
    )


def _common(kinds: set[Any]) -> Any:
    """The type of a column whose blocks have these: a number if all are."""
    import pyarrow as pa

    some = kinds - {pa.null()}
    if len(some) <= 1:
        return some.pop() if some else pa.null()
    return pa.float64() if some == {pa.int64(), pa.float64()} else pa.string()


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
