"""New rows brought into the order of the columns that a model was fitted on, or refused."""

from __future__ import annotations

from typing import Any

from vigmm.core.errors import DataError
from vigmm.data.arrays import SelectColumns, default_columns
from vigmm.data.protocol import Source
from vigmm.data.sources import as_source

__all__ = ["conform"]

_SHOWN = 20


def conform(data: Any, columns: tuple[str, ...]) -> Source:
    """`data` as a source whose columns are those of the model, in their order.

    Names decide where both sides have names of their own; rows without names are taken in the order given.

    Args:
        data: N x D array-like or table, a path, a `DataFile`, an iterator of chunks or any `Source`.
        columns: the model's columns.

    Raises:
        DataError: if the data have another number of columns, or columns of other names.

    Example:
        >>> conform([[1.0, 2.0]], ("width", "height")).dim
        2
    """
    source = as_source(data)
    dim = len(columns)
    if source.dim != dim:
        hint = ". One row needs two dimensions: x[None, :]" if source.dim == 1 and len(source) == dim else ""
        raise DataError(
            f"{source.name}: the model was fitted on {_count(dim)} ({_names(columns)}), the data have "
            f"{source.dim}{_named(source)}{hint}"
        )
    if source.columns == columns:
        return source
    if set(source.columns) == set(columns) and len(set(columns)) == dim:
        return SelectColumns(source, columns)
    if default_columns(dim) in (source.columns, columns):
        return source
    missing = [name for name in columns if name not in source.columns]
    raise DataError(
        f"{source.name}: the model was fitted on the columns {_names(columns)}, and the data have "
        f"{_names(source.columns)}: {_names(missing)} {'is' if len(missing) == 1 else 'are'} missing. "
        f"Rename them, or give the numbers without names in the model's order"
    )


def _named(source: Source) -> str:
    default = source.columns == default_columns(source.dim)
    return "" if default else f" ({_names(source.columns)})"


def _count(dim: int) -> str:
    return f"{dim} column{'' if dim == 1 else 's'}"


def _names(columns: tuple[str, ...] | list[str]) -> str:
    more = f", ... ({len(columns)} in all)" if len(columns) > _SHOWN else ""
    return ", ".join(columns[:_SHOWN]) + more
