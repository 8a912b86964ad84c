"""What a model says, as tables: of the library that the rows came from, or of Arrow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from vigmm.posterior.prediction import Assignments

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["assignment_columns", "summary_table", "table_like"]


def assignment_columns(found: Assignments, *, noise: bool) -> dict[str, np.ndarray]:
    """The columns of a table of assignments; all responsibilities, where they are there, are ``p0, p1, ...``.

    Args:
        found: the assignments.
        noise: whether the last responsibility is that of the noise, ``p_noise``.
    """
    columns = {
        "component": found.component,
        "probability": found.probability,
        "log_density": found.log_density,
    }
    if found.responsibilities is None:
        return columns
    width = found.responsibilities.shape[1]
    names = [f"p{k}" for k in range(width - noise)] + ["p_noise"] * noise
    return columns | dict(zip(names, found.responsibilities.T, strict=True))


def table_like(data: Any, columns: dict[str, np.ndarray]) -> Any:
    """A table of the library that `data` is a table of: pandas (with its index), polars, or else Arrow.

    Example:
        >>> table_like([[1.0]], {"component": np.array([3])}).column_names
        ['component']
    """
    # Whoever holds a frame has imported its library; nobody else should pay for it.
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(data, pandas.DataFrame | pandas.Series):
        return pandas.DataFrame(columns, index=data.index)
    if polars is not None and isinstance(data, polars.DataFrame | polars.Series):
        return polars.DataFrame(columns)
    import pyarrow as pa

    return pa.table(columns)


def summary_table(summary: dict[str, Any]) -> pa.Table:
    """A row for each component and column: weight, mean and spread, each with its credible interval.

    Args:
        summary: what `vigmm.posterior.Summary.to_dict` gives.
    """
    import pyarrow as pa

    rows = [
        _row(summary["level"], one, feature) for one in summary["components"] for feature in one["features"]
    ]
    return pa.Table.from_pylist(rows)


def _row(level: float, one: dict[str, Any], feature: dict[str, Any]) -> dict[str, Any]:
    weight = {
        "weight" if name == "mean" else f"weight_{name}": value for name, value in one["weight"].items()
    }
    spreads = {
        quantity if name == "mean" else f"{quantity}_{name}": value
        for quantity in ("mean", "sd")
        for name, value in feature[quantity].items()
    }
    head = {"component": one["component"], "expected_rows": one["expected_rows"]}
    return {**head, **weight, "column": feature["column"], **spreads, "level": level}
