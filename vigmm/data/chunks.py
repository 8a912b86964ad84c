"""Rows that come as an iterable of chunks, kept on the disk so that they can be read again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vigmm.core.errors import DataError, EmptyError
from vigmm.data.arrays import ArraySource
from vigmm.data.parts import Parts
from vigmm.data.protocol import Rows2D

__all__ = ["open_chunks"]


@dataclass(frozen=True)
class _Run:
    """Rows of one type that follow each other in the file, from a byte on."""

    start: int
    rows: int
    dim: int
    dtype: np.dtype[Any]

    def then(self, part: ArraySource) -> _Run:
        """With more rows behind."""
        return replace(self, rows=self.rows + len(part))


@dataclass(frozen=True)
class _Piece:
    content: Rows2D
    rows: int
    first: int = 0
    file: None = None  # it has no name

    def open(self) -> Rows2D:
        return self.content


def open_chunks(chunks: Iterable[Any], *, columns: tuple[str, ...] | None = None, name: str = "x") -> Parts:
    """Chunks of rows from a generator, a database cursor or a reader, each taken once and held one at a time.

    They are written to a file without a name in the folder of temporary files (``TMPDIR``), which the
    operating system removes when nothing uses it, be it because the process was killed.

    Args:
        chunks: arrays or tables with the same columns, of any numbers of rows.
        columns: names; by default those of the chunks, else ``x0, x1, ...``.
        name: what messages call it.

    Raises:
        DataError: naming the chunk, counted from 0, that is no table of numbers or has other columns than
            the first; if there are no rows; or if there is no room on the disk.

    Example:
        >>> source = open_chunks(np.full((n, 2), n) for n in (1, 2, 3))
        >>> source[1:4].tolist()
        [[2, 2], [2, 2], [3, 3]]
    """
    runs: list[_Run] = []
    names = columns
    with tempfile.TemporaryFile(prefix="vigmm-") as stored:
        for number, chunk in enumerate(chunks):
            part = _part(chunk, names, f"{name}: chunk {number}")
            if part is None:
                continue
            if names is not None and part.columns != names:
                raise DataError(
                    f"{part.name} has the columns {', '.join(part.columns)}, but those before it have "
                    f"{', '.join(names)}: all need the same"
                )
            names = part.columns
            if not runs or runs[-1].dtype != part.dtype:
                runs.append(_Run(stored.tell(), 0, part.dim, part.dtype))
            runs[-1] = runs[-1].then(part)
            try:
                stored.write(np.ascontiguousarray(part[:]).data)
                stored.flush()
            except OSError as error:
                raise DataError(
                    f"{part.name} cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}. "
                    f"Make room, or set TMPDIR to a folder that has some"
                ) from error
        if not runs:
            raise EmptyError(f"{name} gave no rows; a generator can be read once only: make a new one")
        content = np.memmap(stored, np.uint8, mode="r")  # outlives the file, which has no name
    pieces = []
    for run in runs:
        size = run.rows * run.dim * run.dtype.itemsize
        rows = content[run.start : run.start + size].view(run.dtype).reshape(run.rows, run.dim)
        pieces.append(_Piece(rows, run.rows))
    dtype = np.result_type(*(run.dtype for run in runs))
    return Parts(pieces, columns=names or (), dtype=dtype, name=name, read_whole=False)


def _part(chunk: Any, columns: tuple[str, ...] | None, name: str) -> ArraySource | None:
    """One chunk, or None if it has no rows."""
    if not _has_names(chunk) and np.ndim(chunk) == 1:
        raise DataError(f"{name} has one dimension; give rows x columns, a single row as row[None, :]")
    try:
        part = ArraySource(chunk, name=name)
    except EmptyError:
        return None
    named = columns is not None and len(columns) == part.dim and not _has_names(chunk)
    return ArraySource(chunk, columns=columns, name=name) if named else part


def _has_names(chunk: Any) -> bool:
    return hasattr(chunk, "columns") or hasattr(chunk, "column_names")
