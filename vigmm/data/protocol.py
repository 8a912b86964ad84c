"""What a source of rows is, and the few things that are done to every source alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float, Num, Shaped

from vigmm.core.errors import DataError
from vigmm.core.processes import ALONE, Group

__all__ = [
    "CHUNK",
    "Index",
    "Rows2D",
    "Source",
    "blocks",
    "check_finite",
    "check_rows",
    "check_weight",
    "content_fingerprint",
    "evenly_spaced",
    "place_of",
]

CHUNK = 65_536
"""Rows per block of a pass: a few MB at usual widths, enough for BLAS and the disk to run at full speed."""

Rows2D: TypeAlias = Num[np.ndarray, "N D"]
Index: TypeAlias = slice | Shaped[np.ndarray, " n"]

_HASH_WHOLE = 1 << 26
_HASH_BLOCKS = 256


class Source(Protocol):
    """Rows on the host, read by slice or by an array of row numbers; it may be far larger than memory."""

    @property
    def name(self) -> str:
        """What the user called it: the start of every message about it."""
        ...

    @property
    def dim(self) -> int:
        """Number of columns D."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers that indexing returns (native byte order)."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the D columns."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index) -> Rows2D:
        """Rows of a slice or of an integer array, in the order asked for."""
        ...

    def fingerprint(self) -> str:
        """A digest of the content, for the manifest; see `content_fingerprint`."""
        ...


def blocks(
    source: Source, *, index: Shaped[np.ndarray, " n"] | None = None, size: int = CHUNK
) -> Iterator[tuple[int, Rows2D]]:
    """Pairs (position of the first row, rows) that cover the source, or the rows `index`, in order."""
    total = len(source) if index is None else len(index)
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield start, source[slice(start, stop) if index is None else index[start:stop]]


def evenly_spaced(source: Source, most: int) -> Float[np.ndarray, "n D"]:
    """At most `most` rows, evenly spaced."""
    index = np.unique(np.linspace(0, len(source) - 1, min(len(source), most)).astype(np.int64))
    return np.asarray(source[index], np.float64)


def check_rows(source: Source, min_rows: int) -> None:
    """Refuse a source that is too short for what is about to be done.

    Raises:
        DataError: naming the source, its length and what is needed.
    """
    if not len(source) >= min_rows:
        raise DataError(
            f"{source.name} has {len(source)} row{'' if len(source) == 1 else 's'}, "
            f"but at least {min_rows} are needed: give more data or ask for fewer components"
        )


def check_finite(
    block: Rows2D,
    source: Source,
    *,
    start: int = 0,
    index: Index | None = None,
    missing: bool = False,
) -> None:
    """Refuse a block with a NaN or an infinity.

    Args:
        block: rows read from `source`.
        source: for its name and column names.
        start: position of the block's first row in the pass.
        index: row numbers of the pass, if it did not read all rows in order.
        missing: whether NaN stands for a missing value and is welcome.

    Raises:
        DataError: naming the source, the first bad row (counted from 0) and its column, and a remedy.
    """
    finite = ~np.isinf(block) if missing else np.isfinite(block)
    if finite.all():
        return
    row, column = (int(i) for i in np.argwhere(~finite)[0])
    value = float(block[row, column])
    what = "NaN (a missing value)" if np.isnan(value) else f"{value} (infinite)"
    remedy = ", or set model.missing" if np.isnan(value) else ""
    number = start + row if index is None or isinstance(index, slice) else int(index[start + row])
    raise DataError(
        f"{source.name}: {place_of(source, number)}, column {source.columns[column]!r} is {what}. "
        f"Rows are counted from 0, a header not included. Drop or impute such rows, leave the column "
        f"out{remedy}"
    )


def place_of(source: Source, row: int) -> str:
    """How a message names a row; a source of many files has a method `place` that names the file too."""
    place: Callable[[int], str] | None = getattr(source, "place", None)
    return f"row {row}" if place is None else place(row)


def check_weight(
    weight: Any, rows: int, name: str, *, group: Group | None = ALONE
) -> Float[np.ndarray, " N"]:
    """Sample weights as float64, checked.

    Args:
        weight: one for each row.
        rows: how many rows there are.
        name: what messages call them.
        group: processes that each have a share of the rows, of which some must have a weight; None where that
            has been checked.

    Raises:
        DataError: unless there is one finite, non-negative weight per row with a positive sum.
    """
    array = np.asarray(weight)
    if array.shape != (rows,):
        raise DataError(f"{name}: sample weights have shape {array.shape}, not ({rows},), one per row")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name}: sample weights must be numbers, got an array of {array.dtype}")
    checked = array.astype(np.float64)
    good = np.isfinite(checked) & (checked >= 0)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{name}: the weight of row {row} is {checked[row]}; it must be finite and >= 0")
    if group is not None and not group.total(checked.sum()) > 0:
        raise DataError(f"{name}: all sample weights are zero, so there is nothing to fit")
    return checked


def content_fingerprint(source: Source) -> str:
    """SHA-256 over shape, type and content, independent of where the rows are stored.

    Up to 64 MiB every byte counts and the digest reads ``sha256:...``. Beyond that 256 evenly spaced blocks
    of rows, first and last included, 64 MiB together, stand for the rest and the digest reads
    ``sha256-sampled:...``: the same data always give the same digest, but an edit between two blocks may go
    unnoticed.
    """
    rows, width = len(source), source.dim * source.dtype.itemsize
    digest = hashlib.sha256(f"{rows}x{source.dim}:{source.dtype.str}".encode())
    whole = rows * width <= _HASH_WHOLE
    if whole:
        for _, block in blocks(source):
            digest.update(np.ascontiguousarray(block).tobytes())
    else:
        length = max(1, _HASH_WHOLE // (_HASH_BLOCKS * width))
        for start in np.linspace(0, rows - length, _HASH_BLOCKS).astype(int).tolist():
            digest.update(np.ascontiguousarray(source[start : start + length]).tobytes())
    return f"{'sha256' if whole else 'sha256-sampled'}:{digest.hexdigest()}"
