"""A bounded look at data that nobody has described: what each column holds, and which are better left out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import DataError
from vigmm.data.files import place
from vigmm.data.missing import MOST_PATTERNS, patterns_of
from vigmm.data.sources import MANY, DataFile, Source, kind_of

__all__ = ["Column", "Look", "look"]

_ROWS, _VALUES, _BLOCKS = 200_000, 10_000_000, 64
_HEAD_BYTES = 1 << 26
# Columns of these kinds are measurements, whatever they hold.
_PICTURES = ("image",)
_GROSS = 10.0
_MOSTLY = 0.5
_SAME, _ALIKE, _FEW = 1e-9, 1e-3, 2_000


@dataclasses.dataclass(frozen=True)
class Column:
    """What was seen of a column.

    Args:
        name: its name.
        left_out: why a mixture is better off without it; None to keep it.
        missing: share of missing values.
        outliers: share of values further from the median than ten times what the quartiles are apart.
        distinct: different values, at most as many as rows were looked at.
        whole: whether all are whole numbers.
        low: smallest value.
        high: largest value.
    """

    name: str
    left_out: str | None
    missing: float
    outliers: float
    distinct: int
    whole: bool
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Look:
    """What a bounded look tells.

    Args:
        name: what the user called the data.
        rows: how many there are; of a large text file an estimate.
        exact: whether `rows` is no estimate.
        seen: how many of them were looked at.
        columns: every numeric column.
        text: columns that hold no numbers.
        repeats: share of the rows, in the columns kept, that repeat another; 0 for pictures, whose do.
        patterns: combinations of missing columns, in the columns kept.
    """

    name: str
    rows: int
    exact: bool
    seen: int
    columns: tuple[Column, ...]
    text: tuple[str, ...]
    repeats: float
    patterns: int

    @property
    def kept(self) -> tuple[Column, ...]:
        """The columns to cluster by."""
        return tuple(column for column in self.columns if column.left_out is None)

    @property
    def missing(self) -> bool:
        """Whether a value is missing in a column that is kept."""
        return any(column.missing for column in self.kept)


def look(data: DataFile) -> Look:
    """Look at up to 200,000 rows, in blocks from all over the data; of a large text file at its beginning.

    Raises:
        DataError: if the data cannot be read, or no column is left to cluster by.
    """
    with _opened(data) as (source, rows, exact):
        x = _sample(source)
        names = source.columns
        text = tuple(getattr(source, "ignored", ()))
        picture = kind_of(data.path) in _PICTURES if data.kind is None else data.kind in _PICTURES
        starts = _starts(len(source), len(x))
    columns = [_column(name, x[:, d], starts, picture=picture) for d, name in enumerate(names)]
    _leave_out_copies(columns, x)
    _leave_out_holes(columns, x)
    kept = [d for d, column in enumerate(columns) if column.left_out is None]
    if not kept:
        why = "; ".join(f"{column.name}: {column.left_out}" for column in columns[:8])
        raise DataError(f"{source.name} has no column to cluster by ({why}). Give columns of measurements")
    used = x[:, kept]
    return Look(
        name=source.name,
        rows=rows,
        exact=exact,
        seen=len(x),
        columns=tuple(columns),
        text=text,
        repeats=0.0 if picture else 1.0 - len(np.unique(used, axis=0)) / len(used),
        patterns=len(patterns_of(used)),
    )


@contextmanager
def _opened(data: DataFile) -> Iterator[tuple[Source, int, bool]]:
    """The source, its number of rows, and whether that is exact; little of a large file is read."""
    kind = data.kind or kind_of(data.path)
    if kind == "csv" and (file := place(data.path)).is_file() and file.stat().st_size > _HEAD_BYTES:
        with tempfile.TemporaryDirectory() as folder:
            head = Path(folder, "head.csv")
            share = _head(file, head)
            source = dataclasses.replace(data, path=str(head), kind="csv").open()
            yield _Named(source, data.path), round(len(source) / share), False
    elif kind == "parquet" and (file := place(data.path)).is_file():
        # As the only one of many, which are read by row group.
        options: dict[str, Any] = {} if data.columns is None else {"columns": data.columns}
        source = MANY["parquet"]([file], name=data.path, **options)
        yield source, len(source), True
    else:
        source = data.open()
        yield source, len(source), True


class _Named:
    """A source under another name."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self.name = source, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        return self._source[index]


def _head(file: Path, head: Path) -> float:
    """Copy whole lines from the beginning; returns their share of the file, about."""
    import pyarrow as pa

    with file.open("rb") as raw, pa.input_stream(str(file)) as stream:  # decompresses by suffix
        content = stream.read(_HEAD_BYTES)
        squeezed = raw.read(2) == b"\x1f\x8b"
    content = content[: content.rfind(b"\n") + 1] or content
    head.write_bytes(content)
    # Text of numbers is squeezed to about a third.
    return min(1.0, len(content) / (file.stat().st_size * (3 if squeezed else 1)))


def _sample(source: Source) -> Float[np.ndarray, "n D"]:
    """Rows from all over the source, in float64."""
    most = max(2, min(_ROWS, _VALUES // max(source.dim, 1)))
    if len(source) <= most:
        return np.asarray(source[0 : len(source)], np.float64)
    size = max(1, most // _BLOCKS)
    first = _starts(len(source), size * _BLOCKS)[::size]
    return np.concatenate([np.asarray(source[at : at + size], np.float64) for at in first.tolist()])


def _starts(total: int, seen: int) -> np.ndarray:
    """Row numbers of the rows that `_sample` takes."""
    if seen >= total:
        return np.arange(total)
    size = seen // _BLOCKS
    first = np.linspace(0, total - size, _BLOCKS).astype(np.int64)
    numbers: np.ndarray = (first[:, None] + np.arange(size)).ravel()
    return numbers


def _column(name: str, values: np.ndarray, rows: np.ndarray, *, picture: bool) -> Column:
    gaps = np.isnan(values)
    known = values[~gaps]
    if len(known) == 0:
        return Column(name, "all values are missing", 1.0, 0.0, 0, False, np.nan, np.nan)
    finite = known[np.isfinite(known)]
    distinct = len(np.unique(known))
    whole = bool((finite == np.round(finite)).all())
    seen = Column(
        name=name,
        left_out=None,
        missing=float(gaps.mean()),
        outliers=_gross(finite),
        distinct=distinct,
        whole=whole,
        low=float(known.min()),
        high=float(known.max()),
    )
    reason = None if picture else _reason(seen, values, rows, infinite=len(known) - len(finite))
    return dataclasses.replace(seen, left_out=reason)


def _reason(seen: Column, values: np.ndarray, rows: np.ndarray, *, infinite: int) -> str | None:
    if infinite:
        return f"{infinite} infinite values, which no Gaussian has; mend them to use it"
    if seen.distinct == 1:
        return "constant" + (", where it is not missing" if seen.missing else "")
    if seen.missing > _MOSTLY:
        return f"{seen.missing:.0%} of the values are missing"
    if seen.whole and not seen.missing and len(values) > 2 and len(np.unique(values - rows)) == 1:
        return "counts the rows"
    if seen.distinct == 2:
        return f"only two values, {seen.low:g} and {seen.high:g}: a flag and no measurement"
    return None


def _gross(values: Float[np.ndarray, " n"]) -> float:
    if len(values) == 0:
        return 0.0
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(np.mean(np.abs(values - median) > _GROSS * (high - low))) if high > low else 0.0


def _leave_out_copies(columns: list[Column], x: Float[np.ndarray, "n D"]) -> None:
    """Of columns that are the same but for units, the first stays: a full covariance would be singular."""
    kept = [d for d, column in enumerate(columns) if column.left_out is None]
    # Few rows tell which pairs are worth a look at all of them.
    some = x[:: max(1, len(x) // _FEW)][:, kept]
    z = np.nan_to_num(some - np.nanmean(some, axis=0))
    z /= np.maximum(np.sqrt(np.sum(z**2, axis=0)), np.finfo(np.float64).tiny)
    alike = np.abs(z.T @ z) > 1.0 - _ALIKE
    for i, d in enumerate(kept):
        for j in np.flatnonzero(alike[i, :i]).tolist():
            first = columns[kept[j]]
            if first.left_out is None and _same(x[:, kept[j]], x[:, d]):
                why = f"the same as {first.name}, but for units"
                columns[d] = dataclasses.replace(columns[d], left_out=why)
                break


def _same(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> bool:
    """Whether one is a linear function of the other, and they are missing in the same rows."""
    gaps = np.isnan(a)
    if not np.array_equal(gaps, np.isnan(b)):
        return False
    u, v = a[~gaps] - a[~gaps].mean(), b[~gaps] - b[~gaps].mean()
    scale = np.sqrt(u @ u) * np.sqrt(v @ v)
    return bool(scale > 0 and 1.0 - abs(u @ v) / scale < _SAME)


def _leave_out_holes(columns: list[Column], x: Float[np.ndarray, "n D"]) -> None:
    """While there are too many combinations of missing columns, leave out the one most often missing."""
    while True:
        kept = [d for d, column in enumerate(columns) if column.left_out is None]
        if not kept or len(patterns_of(x[:, kept])) <= MOST_PATTERNS // 2:
            return
        worst = max(kept, key=lambda d: columns[d].missing)
        why = f"{columns[worst].missing:.0%} of the values are missing, in too many combinations with others"
        columns[worst] = dataclasses.replace(columns[worst], left_out=why)
