"""Where the bytes of a run are: on each device, and in the process on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vigmm.config import Job
from vigmm.data.protocol import CHUNK
from vigmm.planning.devices import Devices
from vigmm.planning.steps import Sizes, working
from vigmm.train import sample_size

__all__ = ["PORTIONS", "PROGRAMS", "InStep", "Table", "on_devices", "on_host"]

PORTIONS = 4
"""Portions at a time: the one in use, the one before it until its steps are done, and two read ahead."""

PROGRAMS = 180 * 2**20
"""Bytes that compiling takes and compiled programs keep, beyond the imports: measured on a CPU."""

_FIRST_PROGRAMS = 120 * 2**20  # before the program of the steps is compiled
# Chunks of a stream, as they are stored and in float64: in the reader's thread and in that of the survey, and
# what the allocators of both keep of them. Measured with 8 and 32 columns.
_CHUNKS = 6
# What a source of tables keeps of the pieces that it opened (`vigmm.data.parts`) where it was not asked, and
# what Arrow's allocator keeps of their making: measured as 1.4 times.
_PIECES, _ALLOCATOR = 1 << 26, 1.4
_KEEPS_PIECES = ("parquet", "arrow", "csv", "hdf5", "zarr", "anndata")


@dataclass(frozen=True)
class Table:
    """The data, by their description.

    Args:
        name: what they are called.
        rows: N.
        columns: D.
        dtype: type of the numbers in the file.
        kind: a row of `vigmm.data.sources.SOURCES`, where it is known.
        opened: bytes that opened pieces of the files hold at most, where it is known.
    """

    name: str
    rows: int
    columns: int
    dtype: str = "float32"
    kind: str | None = None
    opened: int | None = None


class InStep(Protocol):
    """What memory asks of a step; see `vigmm.planning.estimate.Step`."""

    @property
    def rows(self) -> int:
        """Rows of a step, on all devices."""
        ...

    @property
    def rows_per_device(self) -> int:
        """On one."""
        ...

    @property
    def shared_bytes(self) -> float:
        """Set aside for the rows of a batch, should one device have too many of them."""
        ...


def on_devices(
    job: Job,
    table: Table,
    resident: int,
    step: InStep,
    kept: Sizes,
    devices: Devices,
    *,
    method: str,
) -> dict[str, int]:
    """Bytes on each device."""
    dim, count, width = table.columns, devices.count, np.dtype(job.dtype).itemsize
    streamed = bool(job.train.stream)
    row = width * (dim + 1)
    held = table.rows - job.train.fitted(table.rows)
    sample = sample_size(job.train, job.moves, rows=job.train.fitted(table.rows), dim=dim, dtype=job.dtype)
    backend = {"h100": "gpu", "v5e": "tpu", None: "cpu"}[devices.figures.compiled]
    found = {
        "portions" if streamed else "rows": (PORTIONS if streamed else 1) * row * -(-resident // count),
        "state and prior": kept.state + kept.prior,
        "held-out rows": row * held,
        # The start and the search look at it; where there are few rows it is all of them.
        "sample": row * sample if streamed or sample < job.train.fitted(table.rows) or count > 1 else 0,
        "batch": row * step.rows_per_device if step.rows < resident else 0,
        "tiles": working(job, dim, step.rows_per_device, method, backend),
    }
    if step.shared_bytes:
        found["batch of all devices"] = int(step.shared_bytes)
    return {name: size for name, size in found.items() if size}


def on_host(
    job: Job, table: Table, resident: int, device: dict[str, int], devices: Devices
) -> dict[str, int]:
    """Bytes of the process at its largest, imports not counted; of a CPU those of its devices too."""
    dim, width, stored = table.columns, np.dtype(job.dtype).itemsize, np.dtype(table.dtype).itemsize
    streamed, here = bool(job.train.stream), devices.figures.compiled is None
    there = {name: size * devices.count for name, size in device.items()} if here else {}
    always = {
        "row numbers": 0 if streamed else 2 * 8 * resident,
        "pieces of files": int(_ALLOCATOR * _opened(table)),
    }
    chunk = CHUNK * dim * (2 * stored + 3 * 8)  # as it is stored, and in float64
    row = width * (dim + 1)
    # While rows are taken in, all of them are on the host once more; then the steps are compiled.
    kept = {name: there[name] for name in ("rows", "sample") if name in there}
    coming = {**kept, **always, "chunks being read": chunk, "programs": _FIRST_PROGRAMS}
    coming["rows on their way"] = 0 if streamed else row * resident
    running = {**there, **always, "programs": PROGRAMS}
    if streamed:
        running["portions on their way"] = (1 if here else 2) * row * resident
        running["chunks being read"] = _CHUNKS * chunk
    largest = max(coming, running, key=lambda found: sum(found.values()))
    return {name: size for name, size in largest.items() if size}


def _opened(table: Table) -> int:
    """Bytes of opened pieces."""
    if table.opened is not None:
        return table.opened
    whole = table.rows * table.columns * np.dtype(table.dtype).itemsize
    return min(_PIECES, whole) if table.kind in _KEEPS_PIECES else 0
