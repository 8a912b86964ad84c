"""Tables in memory by way of Arrow's C interface: pandas, polars, Arrow, DuckDB and whatever else speaks it.

None of these libraries is imported here, or named: https://arrow.apache.org/docs/format/CDataInterface.html.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vigmm.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_table", "names_of"]


def arrow_table(data: Any, name: str) -> pa.Table | None:
    """`data` as an Arrow table, or None where NumPy reads it as well: what is no table, or of one type only.

    The index of a pandas frame is no column.

    Raises:
        DataError: if it is a table with a column that Arrow has no type for.

    Example:
        >>> import pyarrow as pa
        >>> arrow_table(pa.record_batch({"a": [1, 2], "b": ["x", "y"]}), "x").column_names
        ['a', 'b']
        >>> arrow_table([[1, 2]], "x") is None
        True
    """
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")) or _one_type(data):
        return None
    import pyarrow as pa

    names = names_of(data)
    try:
        table = pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if names is None or _is_series(data):  # NumPy's business
            return None
        text = " ".join(str(part) for part in error.args)
        raise DataError(f"{name} cannot be read as a table: {text}. Leave that column out") from error
    return table if names is None else table.select([*map(str, names)])


def names_of(data: Any) -> tuple[str, ...] | None:
    """Column names of a table (pandas and polars say ``columns``, Arrow ``column_names``) or of a series."""
    names = getattr(data, "column_names", None)
    if names is None:
        names = getattr(data, "columns", None)
    if names is None and _is_series(data) and getattr(data, "name", None) is not None:
        names = [data.name]  # a series, the single column of a data frame
    return None if names is None else tuple(str(name) for name in names)


def _is_series(data: Any) -> bool:
    return bool(getattr(data, "ndim", len(getattr(data, "shape", ()))) == 1)


def _one_type(data: Any) -> bool:
    """Whether a table keeps all its columns as one NumPy type, so that NumPy may read it without a copy."""
    kinds = getattr(data, "dtypes", None)
    found = list(kinds) if isinstance(kinds, Iterable) else []
    return len(set(found)) == 1 and isinstance(found[0], np.dtype) and found[0].kind in "buif"
