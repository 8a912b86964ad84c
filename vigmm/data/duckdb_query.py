"""The result of an SQL query, by DuckDB: filters, joins and new columns over Parquet, CSV and JSON files."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.columns import numbers
from vigmm.data.protocol import CHUNK, Index, Rows2D, content_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DuckdbSource"]

_PREFIX = "duckdb:"
_SHOWN = 80
# A configuration must neither run code from the network nor see this process's variables.
_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


class DuckdbSource:
    """The rows of one ``SELECT``, read into memory; nothing else than a query is run.

    Names of files in the query are relative to the working folder. Rows come in the order that the query
    gives: where it groups or joins, an ``ORDER BY`` makes that order the same every time.

    Args:
        path: the query, after ``duckdb:``.
        columns: names to keep, in this order; by default every numeric column of the result.
        name: what messages call it; the start of the query by default.

    Attributes:
        ignored: columns left out because they hold no numbers; empty if `columns` was given.

    Raises:
        DataError: if DuckDB is not installed, or refuses the query, or its result has no rows, or columns
            that are no numbers.
    """

    prefixes: ClassVar[tuple[str, ...]] = (_PREFIX,)
    suffixes: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ("columns",)

    def __init__(self, path: str, *, columns: tuple[str, ...] | None = None, name: str | None = None) -> None:
        query = str(path).removeprefix(_PREFIX).strip()
        shown = textwrap.shorten(f"{_PREFIX}{query}", _SHOWN, placeholder=" ...")
        self.name = shown if name is None else name
        array, names, ignored = numbers(_result(query, self.name), columns, self.name)
        self._rows = ArraySource(array, columns=names, name=self.name)
        self.ignored: tuple[str, ...] = ignored if columns is None else ()
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the numbers in the result."""
        return content_fingerprint(self)


def _result(query: str, name: str) -> pa.Table:
    """What one query gives, fetched chunk by chunk."""
    try:
        import duckdb
    except ImportError as error:
        raise DataError(f"{name}: queries need DuckDB; pip install 'vigmm[duckdb]'") from error
    import pyarrow as pa

    try:
        with duckdb.connect(config=dict(_CLOSED)) as connection:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise DataError(f"{name}: give exactly one SELECT; nothing else is run")
            with connection.sql(query).to_arrow_reader(CHUNK) as reader:
                return pa.Table.from_batches(reader, schema=reader.schema)
    except (duckdb.Error, pa.ArrowException) as error:
        reason = " ".join(str(error).split("\n\n")[0].split()).rstrip(".")
        raise DataError(f"{name}: DuckDB refuses the query: {reason}. Mend the query") from error
