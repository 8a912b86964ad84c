"""Which cells are compiled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from benchmarks.compile_only.cells import Cell

__all__ = ["cells"]

DIMS, COMPONENTS = (16, 64, 128), (16, 64, 512)
# No powers of two: whoever pads the rows to whole tiles is to be seen.
BATCHES = (8_000, 100_000, 1_000_000)
MANY = BATCHES[-1]
SIZES = ((16, 16), (64, 64), (128, 512))
TILES = (1_024, 4_096, 16_384, 65_536)


def cells(target: str, *, quick: bool = False) -> list[Cell]:
    """Every cell of a target, or a few."""
    return list(_quick(target) if quick else _all(target))


def _quick(target: str) -> Iterator[Cell]:
    for batch in BATCHES[1:]:
        yield Cell(target, "natural", 16, 16, batch, batch)
    for placement in ("auto", "shared"):
        yield Cell(target, "natural", 16, 16, MANY, MANY, 4, placement)
    yield Cell(target, "meanfield", 16, 16, MANY, MANY, 4, "shared")
    yield Cell(target, "packed", 16, 16, MANY, MANY, tile=8_192)


def _all(target: str) -> Iterator[Cell]:
    every = tuple(itertools.product(DIMS, COMPONENTS))
    for (dim, num), batch in itertools.product(every, BATCHES):
        yield Cell(target, "natural", dim, num, batch, batch)
    for (dim, num), batch in itertools.product(every, BATCHES[1:]):
        yield Cell(target, "meanfield", dim, num, batch, batch)
    for dim, num in every:
        yield Cell(target, "natural", dim, num, MANY, MANY, 4, "shared")
    for method, (dim, num) in itertools.product(("natural", "meanfield"), SIZES):
        yield Cell(target, method, dim, num, MANY, MANY, 2, "shared")
        yield Cell(target, method, dim, num, MANY, MANY, 4)
    for dim, num in SIZES:
        yield Cell(target, "meanfield", dim, num, MANY, MANY, 4, "shared")
    for method in ("natural", "meanfield"):
        # A minibatch of many rows: what picking it costs, and what it moves between devices.
        yield Cell(target, method, 16, 16, MANY, 50_000)
        for placement in ("auto", "shared"):
            yield Cell(target, method, 16, 16, MANY, 50_000, 4, placement)
    # Blocks of P^2 / 2 numbers: at 64 columns and 512 components they alone would be 4.7 GB, four times over.
    for num in COMPONENTS:
        for batch in BATCHES[1:]:
            yield Cell(target, "blocks", 16, num, batch, batch)
        yield Cell(target, "blocks", 16, num, MANY, MANY, 4, "shared")
    for (dim, num), tile in itertools.product(SIZES, TILES):
        yield Cell(target, "natural", dim, num, MANY, MANY, tile=tile)
    for dim, num in every:
        for form in ("whitened", "full", "packed"):
            # Tiles for which the widest temporary is about 64 MiB, but not fewer than 1,024 rows.
            width = {"whitened": num * dim, "full": dim * dim + num, "packed": dim * (dim + 1) // 2 + num}
            fit = max(2**24 // width[form], 1_024)
            yield Cell(target, form, dim, num, MANY, MANY, tile=1 << (fit.bit_length() - 1))
    if target == "h100":  # `natural` by the engine's own kernels, which are for GPUs
        for (dim, num), batch in itertools.product(every, BATCHES):
            yield Cell(target, "fused", dim, num, batch, batch)
        yield Cell(target, "fused", 64, 64, MANY, MANY, 4, "shared")
