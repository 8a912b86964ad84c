"""Arrays in files that are read by ranges of rows: fast in ranges, and very slow row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.parts import Parts
from vigmm.data.protocol import CHUNK

__all__ = ["ReadRange", "open_slices"]

ReadRange: TypeAlias = Callable[[int, int], np.ndarray]
"""Reads the rows from one number to before another; it opens the file and closes it again."""

_BYTES = 1 << 26


@dataclass(frozen=True)
class _Slice:
    file: Path
    first: int
    rows: int
    read: ReadRange
    name: str

    def open(self) -> ArraySource:
        rows = self.read(self.first, self.first + self.rows)
        if len(rows) != self.rows:
            raise DataError(f"{self.name} has changed since the run began; start again")
        return ArraySource(rows, name=self.name)


def open_slices(
    file: Path,
    shape: tuple[int, ...],
    read: ReadRange,
    *,
    name: str,
    chunk: int = 1,
    columns: tuple[str, ...] | None = None,
) -> Parts:
    """An array of one or two dimensions in a file, in pieces of 65,536 rows or 64 MiB.

    Args:
        file: where it is.
        shape: of the array.
        read: reads a range of rows.
        name: what messages call it.
        chunk: rows that are stored together; a piece is a multiple of them.
        columns: names; by default ``x0, x1, ...``.

    Raises:
        DataError: if it is not a non-empty table of real numbers.
    """
    if len(shape) not in (1, 2) or 0 in shape:
        ArraySource(np.empty(shape), name=name)  # says what is wrong with the shape
    head = ArraySource(read(0, 1), columns=columns, name=name)  # and this with the type
    width = head.dim * head.dtype.itemsize
    step: int = max(min(CHUNK, _BYTES // width) // chunk, 1) * chunk
    total = int(shape[0])
    pieces = [_Slice(file, at, min(step, total - at), read, name) for at in range(0, total, step)]
    return Parts(pieces, columns=head.columns, dtype=head.dtype, name=name, one_file=True)
