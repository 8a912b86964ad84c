"""Parquet files, one or many: lengths and gaps from the footers, rows by row group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigmm.data.parts import Parts
from vigmm.data.remote import AnyFile, filesystem
from vigmm.data.table_parts import Tables, open_tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetFormat", "open_parquet"]


class ParquetFormat:
    """Parquet as a `TableFormat`; a piece is a row group. Footers that were read are kept."""

    kind = "parquet"
    unit: str | None = "row group"

    def __init__(self) -> None:
        self._fragments: dict[AnyFile, Any] = {}

    def schema(self, file: AnyFile) -> pa.Schema:
        """Names and types of the columns, from the footer."""
        schema: pa.Schema = self._fragment(file).physical_schema
        return schema

    def sizes(self, file: AnyFile) -> list[int]:
        """Rows of every row group, from the footer."""
        return [group.num_rows for group in self._fragment(file).row_groups]

    def nulls(self, file: AnyFile, columns: list[str]) -> set[str]:
        """Columns with missing cells: from the footer, or by reading the columns it is silent on."""
        metadata = self._fragment(file).metadata
        positions = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
        found, silent = set(), []
        for column in columns:
            counts = [
                _null_count(metadata.row_group(g).column(positions[column]))
                for g in range(metadata.num_row_groups)
            ]
            if any(counts):
                found.add(column)
            elif None in counts:
                silent.append(column)
        if silent:
            table = self.read(file, silent, None)
            found |= {column for column in silent if table.column(column).null_count}
        return found

    def read(self, file: AnyFile, columns: list[str], piece: int | None) -> pa.Table:
        """One row group, or the whole file."""
        fragment = self._fragment(file)
        chosen = fragment if piece is None else fragment.subset(row_group_ids=[piece])
        table: pa.Table = chosen.to_table(columns=columns)
        return table

    def _fragment(self, file: AnyFile) -> Any:
        from pyarrow import dataset

        if file not in self._fragments:
            system, path = filesystem(file)
            self._fragments[file] = dataset.ParquetFileFormat().make_fragment(path, system)
        return self._fragments[file]


def open_parquet(where: Tables, *, columns: tuple[str, ...] | None = None, name: str | None = None) -> Parts:
    """A Parquet file; only the wanted columns of row groups that hold rows asked for are read.

    The arguments and errors are those of `vigmm.data.csv_parts.open_csv`.
    """
    return open_tables(where, format=ParquetFormat(), columns=columns, name=name)


def _null_count(chunk: Any) -> int | None:
    told = chunk.is_stats_set and chunk.statistics.has_null_count
    return int(chunk.statistics.null_count) if told else None
