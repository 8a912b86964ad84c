"""Arrow's own files (IPC, also known as Feather): one or many, memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigmm.data.parts import Parts
from vigmm.data.protocol import CHUNK
from vigmm.data.remote import AnyFile, filesystem
from vigmm.data.table_parts import Tables, open_tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowFormat", "open_arrow"]

_MAGIC = b"ARROW1"


class ArrowFormat:
    """Arrow IPC as a `TableFormat`; what is not compressed stays in the map.

    A piece is as many record batches as make 65,536 rows. A file that is elsewhere, or is a stored stream, is
    one piece: to learn its batches would be to read them.
    """

    kind = "arrow"
    unit: str | None = None

    def __init__(self) -> None:
        self._pieces: dict[AnyFile, list[range]] = {}

    def schema(self, file: AnyFile) -> pa.Schema:
        """Names and types of the columns."""
        schema: pa.Schema = _open(file).schema
        return schema

    def sizes(self, file: AnyFile) -> list[int]:
        """Rows of every piece, by the headers of batches or, where Arrow cannot tell, by one column."""
        from pyarrow import dataset

        names = self.schema(file).names
        if not names or not _has_footer(file) or len(set(names)) < len(names):
            return [_open(file, [0]).read_all().num_rows]
        if isinstance(file, Path):
            reader = _open(file, [0])
            rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
            self._pieces[file] = _together(rows)
            return [sum(rows[i] for i in piece) for piece in self._pieces[file]]
        system, path = filesystem(file)
        fragment = dataset.IpcFileFormat().make_fragment(path, system)
        return [fragment.count_rows()]

    def nulls(self, file: AnyFile, columns: list[str]) -> set[str]:
        """Columns with missing cells; of compressed files, these columns are read."""
        table = self.read(file, columns, None)
        return {column for column in columns if table.column(column).null_count}

    def read(self, file: AnyFile, columns: list[str], piece: int | None) -> pa.Table:
        """One piece, or the whole file: a view of the map, but for compressed columns."""
        import pyarrow as pa

        names = self.schema(file).names
        reader = _open(file, sorted(names.index(column) for column in columns))
        if piece is None or file not in self._pieces:
            table: pa.Table = reader.read_all()
            return table
        return pa.Table.from_batches([reader.get_batch(i) for i in self._pieces[file][piece]], reader.schema)


def _together(rows: list[int]) -> list[range]:
    """Runs of neighbouring batches of at most `CHUNK` rows, or of one that has more.

    Example:
        >>> _together([30_000, 30_000, 30_000, 70_000, 1])
        [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    runs: list[range] = []
    held = 0
    for number, count in enumerate(rows):
        if runs and held + count <= CHUNK:
            runs[-1], held = range(runs[-1].start, number + 1), held + count
        else:
            runs.append(range(number, number + 1))
            held = count
    return runs


def _has_footer(file: AnyFile) -> bool:
    """Whether it is a file in Arrow's sense; otherwise it is a stream of batches, as some programs store."""
    system, path = filesystem(file)
    with system.open_input_file(path) as stream:
        return bool(stream.read(len(_MAGIC)) == _MAGIC)


def _open(file: AnyFile, fields: list[int] | None = None) -> Any:
    """A reader of the file, through a memory map if it is here, for all fields or for some."""
    import pyarrow as pa

    opens = pa.ipc.open_file if _has_footer(file) else pa.ipc.open_stream
    system, path = filesystem(file)
    content = pa.memory_map(path) if isinstance(file, Path) else system.open_input_file(path)
    return opens(content, options=pa.ipc.IpcReadOptions(included_fields=fields))


def open_arrow(where: Tables, *, columns: tuple[str, ...] | None = None, name: str | None = None) -> Parts:
    """An Arrow IPC (Feather version 2) file, or a stored stream, memory-mapped.

    Only rows asked for are read. Arguments and errors: see `vigmm.data.csv_parts.open_csv`.
    """
    return open_tables(where, format=ArrowFormat(), columns=columns, name=name)
