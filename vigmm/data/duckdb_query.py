"""The result of an SQL query, by DuckDB: filters, joins and new columns over Parquet, CSV and JSON files."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.columns import numbers
from vigmm.data.protocol import CHUNK

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PREFIX", "open_duckdb"]

PREFIX = "duckdb:"
_SHOWN = 80
# A configuration must neither run code from the network nor see this process's variables.
_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


def open_duckdb(path: str, *, columns: tuple[str, ...] | None = None) -> ArraySource:
    """The rows of one ``SELECT``, read into memory; nothing else than a query is run.

    Names of files in the query are relative to the working folder. Rows come in the order that the query
    gives: where it groups or joins, an ``ORDER BY`` makes that order the same every time. Messages call it by
    its start.

    Args:
        path: the query, after ``duckdb:``.
        columns: names to keep, in this order; by default every numeric column of the result.

    Raises:
        DataError: if DuckDB is not installed, or refuses the query, or its result has no rows, or columns
            that are no numbers.
    """
    query = path.removeprefix(PREFIX).strip()
    name = textwrap.shorten(f"{PREFIX}{query}", _SHOWN, placeholder=" ...")
    array, names, ignored = numbers(_result(query, name), columns, name)
    return ArraySource(array, columns=names, name=name, ignored=ignored if columns is None else ())


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
