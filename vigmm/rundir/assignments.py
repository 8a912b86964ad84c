"""Assignments of rows as a Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vigmm.posterior import Assignments
from vigmm.posterior.tables import assignment_columns
from vigmm.rundir.files import appearing

__all__ = ["SKIPPED", "write_assignments"]

SKIPPED = "vigmm.skipped_rows"


def write_assignments(
    path: Path,
    parts: Iterable[tuple[int, Assignments]],
    *,
    overwrite: bool = True,
    noise: bool = False,
    source: object = None,
) -> int:
    """Write rows, their components, probabilities and log densities, one row group a part.

    Where the parts have all responsibilities, these follow in columns ``p0, p1, ...``.

    Args:
        path: the file, which appears when it is whole.
        parts: pairs (number of the first row, assignments), at least one.
        overwrite: whether a file of that name may be replaced.
        noise: whether the last responsibility is that of the noise, ``p_noise``.
        source: where the rows come from; where some were skipped, it knows the numbers of the others, and the
            file says how many, as `SKIPPED` in its metadata.

    Returns:
        The number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers: Callable[[int, int], Int[np.ndarray, " n"]] = getattr(source, "row_numbers", np.arange)
    skipped = len(getattr(source, "bad_rows", ()))
    note = {SKIPPED: str(skipped)} if skipped else None
    count = 0
    with appearing(path, overwrite=overwrite) as temporary:
        writer: Any = None
        try:
            for start, part in parts:
                count = start + len(part.component)
                columns = {
                    "row": numbers(start, count).astype(np.int64),
                    **assignment_columns(part, noise=noise),
                }
                table = pa.table(columns, metadata=note)
                if writer is None:
                    # A dictionary of floats that are all different would take three times as long.
                    writer = pq.ParquetWriter(
                        temporary, table.schema, compression="zstd", use_dictionary=["component"]
                    )
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    return count
