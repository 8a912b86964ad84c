"""A source without its bad rows: those with a NaN or an infinity are counted and left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from vigmm.core.errors import EmptyError
from vigmm.data.protocol import Index, Rows2D, Source, blocks, content_fingerprint, place_of

__all__ = ["GoodRows"]


class GoodRows:
    """The rows of a source that are finite in every column, found by one pass over it.

    What is kept in memory are the numbers of the bad rows, so few of them cost nothing.

    Args:
        source: any rows.

    Attributes:
        bad_rows: numbers of the rows that are left out, in the source.

    Raises:
        EmptyError: if no row is good.

    Example:
        >>> from vigmm.data.arrays import ArraySource
        >>> good = GoodRows(ArraySource([[1.0], [np.nan], [3.0]]))
        >>> good[:].tolist(), good.bad_rows.tolist(), good.row_numbers(0, 2).tolist()
        ([[1.0], [3.0]], [1], [0, 2])
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.dim, self.dtype, self.columns = source.name, source.dim, source.dtype, source.columns
        self.ignored: tuple[str, ...] = getattr(source, "ignored", ())
        found = [start + np.flatnonzero(~np.isfinite(rows).all(axis=1)) for start, rows in blocks(source)]
        self.bad_rows: Int[np.ndarray, " bad"] = np.concatenate(found)
        self._rows = len(source) - len(self.bad_rows)
        if self._rows == 0:
            raise EmptyError(
                f"{self.name} has no row without a NaN or an infinity; choose other columns",
                skipped=len(self.bad_rows),
            )
        # How many good rows come before each bad one.
        self._before = self.bad_rows - np.arange(len(self.bad_rows))
        ends = getattr(source, "piece_ends", None)
        if ends is not None:
            self.piece_ends = np.unique(ends - np.searchsorted(self.bad_rows, ends))
            self.piece_ends = self.piece_ends[self.piece_ends > 0]

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Index) -> Rows2D:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._rows)
            if step == 1 and stop > start:
                return self._range(*(int(n) for n in self._numbers(np.array([start, stop - 1]))))
            return self._source[self._numbers(np.arange(start, stop, step))]
        number = np.asarray(index)
        outside = (number < -self._rows) | (number >= self._rows)
        if outside.any():
            raise IndexError(f"{self.name}: no row {number[outside][0]} (there are {self._rows} good rows)")
        return self._source[self._numbers(number.astype(np.int64) % self._rows)]

    def row_numbers(self, start: int, stop: int) -> Int[np.ndarray, " n"]:
        """Numbers in the source of the good rows from `start` to before `stop`."""
        return self._numbers(np.arange(start, stop))

    def place(self, row: int) -> str:
        """Where a row stands in the source; see `vigmm.data.protocol.place_of`."""
        raw = place_of(self._source, int(self._numbers(np.array([row]))[0]))
        return f"{raw} (row {row} of those that are kept)"

    def fingerprint(self) -> str:
        """Digest of the good rows."""
        return content_fingerprint(self)

    def _numbers(self, number: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        raw: np.ndarray[Any, Any] = number + np.searchsorted(self._before, number, side="right")
        return raw

    def _range(self, first: int, last: int) -> Rows2D:
        rows = self._source[first : last + 1]
        low, high = np.searchsorted(self.bad_rows, [first, last])
        return np.delete(rows, self.bad_rows[low:high] - first, axis=0) if high > low else rows
