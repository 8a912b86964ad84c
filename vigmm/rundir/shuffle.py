"""A one-off external shuffle: the rows of any source in random order, as files, in bounded memory.

First each row goes to a bucket drawn at random, on the disk; then each bucket is read, shuffled and written
as a part. All orders are equally likely (Rao 1961, Sandelius 1962), and the same seed gives the same order.

References:
    C. R. Rao, Generation of random permutations of given number of elements using random sampling numbers,
    Sankhya A 23 (1961).
    M. Sandelius, A simple randomization procedure, J. Royal Statistical Society B 24 (1962).
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vigmm.core.errors import OutputError
from vigmm.data.protocol import Rows2D, Source, blocks

__all__ = ["FORMATS", "shuffle"]

BUCKET = 1 << 26
"""Bytes per bucket: with its copies and what a source keeps, half a GiB of memory."""

_READ = 1 << 25
_GROUP = 65_536


def _write_npy(path: Path, rows: Rows2D, columns: tuple[str, ...]) -> None:
    with path.open("wb") as file:
        np.save(file, rows)


def _write_parquet(path: Path, rows: Rows2D, columns: tuple[str, ...]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: rows[:, i] for i, name in enumerate(columns)})
    pq.write_table(table, path, row_group_size=_GROUP, use_dictionary=False)


FORMATS: dict[str, Callable[[Path, Rows2D, tuple[str, ...]], None]] = {
    "npy": _write_npy,
    "parquet": _write_parquet,
}


def shuffle(
    source: Source,
    folder: Path,
    *,
    format: str,
    seed: int = 0,
    bucket: int = BUCKET,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write all rows of a source in random order into a new folder, which appears when it is whole.

    Args:
        source: the rows.
        folder: where; nothing may be there.
        format: a row of `FORMATS`.
        seed: chooses the order.
        bucket: bytes of rows per bucket, and so per part, on average.
        progress: told how many rows are done, of twice as many as there are.

    Returns:
        The parts, in the order of their rows.

    Raises:
        OutputError: if the folder is there, or the disk has too little room for a copy of the rows.
    """
    rows, width = len(source), source.dim * source.dtype.itemsize
    count = max(1, -(-rows * width // bucket))
    told = progress or (lambda done: None)
    with _appearing(folder, room=rows * width + 2 * bucket) as stage:
        names = [stage / f"bucket-{i}" for i in range(count)]
        step = max(1, min(_READ, 2 * bucket) // width)
        for start, block in blocks(source, size=step):
            _scatter(np.ascontiguousarray(block), names, _draws(seed, 0, start // step))
            told(start + len(block))
        parts, done = [], rows
        digits = max(5, len(str(count)))
        for i, name in enumerate(names):
            if not name.exists():  # by chance, where there are few rows
                continue
            found = np.fromfile(name, source.dtype).reshape(-1, source.dim)
            name.unlink()
            part = stage / f"part-{i:0{digits}}.{format}"
            FORMATS[format](part, found[_draws(seed, 1, i).permutation(len(found))], source.columns)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            parts.append(part.name)
            done += len(found)
            told(done)
    return [folder / name for name in parts]


def _draws(seed: int, *what: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=what))


def _scatter(rows: Rows2D, buckets: list[Path], draws: np.random.Generator) -> None:
    """Append each row to one of the buckets. No file stays open, so there may be any number of them."""
    owner = draws.integers(len(buckets), size=len(rows))
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(buckets)))
    ordered = rows[order]
    for path, low, high in zip(buckets, [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if high > low:
            with path.open("ab") as file:
                ordered[low:high].tofile(file)


@contextmanager
def _appearing(folder: Path, *, room: int) -> Iterator[Path]:
    """A hidden folder beside it that gets its name at the end; what killed processes left is removed."""
    if folder.exists():
        raise OutputError(f"{folder} already exists; choose another folder, or delete it first")
    if not folder.parent.is_dir():
        raise OutputError(f"{folder} cannot be made: there is no folder {folder.parent}; make it first")
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        shutil.rmtree(old, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < room:
        raise OutputError(
            f"{folder}: shuffling needs {_gb(room)} there, and {_gb(free)} are free; "
            f"make room or choose a folder on another disk"
        )
    stage = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        stage.mkdir()
        yield stage
        stage.rename(folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(stage, ignore_errors=True)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
