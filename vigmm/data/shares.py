"""The share of the rows that one of several processes reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import DataError
from vigmm.core.processes import Group
from vigmm.data.protocol import Index, Rows2D, Source, check_weight, content_fingerprint, place_of

__all__ = ["RowRange", "check_alike", "fingerprint_of", "share_of", "weighed_fingerprint"]

T = TypeVar("T")


def share_of(parts: Sequence[T], sizes: Sequence[float], group: Group) -> list[T]:
    """A run of neighbouring parts for each process, of about the same size in all, and none for nobody.

    Args:
        parts: files, in the order of the rows; at least as many as there are processes.
        sizes: of each part.
        group: the processes.

    Example:
        >>> [share_of("abcde", [1, 1, 1, 1, 4], Group(i, 2)) for i in (0, 1)]
        [['a', 'b', 'c', 'd'], ['e']]
    """
    ends = np.cumsum(np.asarray(sizes, np.float64))
    # A part goes to the process in whose stretch of the whole its middle lies.
    middles = (ends - np.asarray(sizes, np.float64) / 2) / max(ends[-1], 1.0)
    wanted = np.minimum((middles * group.count).astype(int), group.count - 1).tolist()
    mine: list[T] = []
    owner = -1
    for number, (part, one) in enumerate(zip(parts, wanted, strict=True)):
        # Nobody goes without: none is left out, and enough are left for those that come after.
        owner = max(min(one, owner + 1), owner, group.count - len(parts) + number)
        if owner == group.index:
            mine.append(part)
    return mine


class RowRange:
    """Neighbouring rows of another source.

    Args:
        source: all rows.
        start: the first row.
        stop: the row after the last.
    """

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source, self._start, self._rows = source, start, stop - start
        self.name, self.dim, self.dtype, self.columns = source.name, source.dim, source.dtype, source.columns
        self.ignored: tuple[str, ...] = getattr(source, "ignored", ())
        ends = getattr(source, "piece_ends", None)
        if ends is not None:
            inner = np.unique(np.clip(np.asarray(ends), start, stop)) - start
            self.piece_ends = inner[inner > 0]

    @staticmethod
    def of(source: Source, group: Group) -> RowRange:
        """The stretch of a process.

        Raises:
            DataError: if there are fewer rows than processes.
        """
        if len(source) < group.count:
            raise DataError(f"{source.name} has {len(source)} rows for {group.count} processes: start fewer")
        edges = np.linspace(0, len(source), group.count + 1).astype(int).tolist()
        return RowRange(source, edges[group.index], edges[group.index + 1])

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Index) -> Rows2D:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._rows)
            return self._source[self._start + start : self._start + max(stop, start) : step]
        number = np.asarray(index)
        outside = (number < -self._rows) | (number >= self._rows)
        if outside.any():
            raise IndexError(f"{self.name}: no row {number[outside][0]} of {self._rows} rows")
        return self._source[self._start + number.astype(np.int64) % self._rows]

    def place(self, row: int) -> str:
        """Where a row stands in all of the source; see `vigmm.data.protocol.place_of`."""
        return place_of(self._source, self._start + row)

    def fingerprint(self) -> str:
        """Digest of these rows."""
        return content_fingerprint(self)


def check_alike(source: Source, group: Group) -> None:
    """Refuse shares that are not of one table.

    Raises:
        DataError: in all processes, naming the first two that differ.
    """
    told: list[dict[str, Any]] = group.gather_facts({"name": source.name, "columns": list(source.columns)})
    for number, one in enumerate(told):
        if one["columns"] != told[0]["columns"]:
            raise DataError(
                f"{one['name']}: the files of process {number} have the columns {', '.join(one['columns'])}, "
                f"those of process 0 have {', '.join(told[0]['columns'])}. Choose the columns that all have"
            )


def fingerprint_of(source: Source, group: Group) -> str:
    """A digest of the rows of all processes; of a process alone, that of its rows."""
    told: list[str] = group.gather_facts(source.fingerprint())
    if len(told) == 1:
        return told[0]
    kind = told[0].partition(":")[0]
    return f"{kind}:{hashlib.sha256(' '.join(told).encode()).hexdigest()}"


def weighed_fingerprint(
    fingerprint: str, weight: Float[np.ndarray, " n"] | None, source: Source, group: Group
) -> str:
    """The digest of the rows, with that of the weights of all processes if there are any."""
    own = None
    if weight is not None:
        own = hashlib.sha256(check_weight(weight, len(source), source.name, group=None).tobytes()).hexdigest()
    told = group.gather_facts(own)
    return fingerprint if told == [None] * len(told) else "+".join([fingerprint, *map(str, told)])
