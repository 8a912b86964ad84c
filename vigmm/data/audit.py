"""Are the rows of a source in random order? Blocks of them show it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.data.protocol import Source

__all__ = ["BLOCK", "ShuffleAudit", "shuffle_audit"]

BLOCK = 1_024
"""Rows that are read together where rows are read at random from a large file."""

_BLOCKS = 64
_FEWEST, _SHORTEST = 16, 4
_ORDERED = 2.0


@dataclasses.dataclass(frozen=True)
class ShuffleAudit:
    """How much a block of neighbouring rows differs from as many rows drawn at random.

    Args:
        effect: the design effect of the column where it is largest: the variance of the means of blocks
            divided by what it would be if the rows were in random order. It is 1 for such rows, and the
            length of a block where all its rows are the same.
        column: that column.
        mean: the mean over all columns.
        block: rows per block.
        blocks: how many blocks were read.
    """

    effect: float
    column: str
    mean: float
    block: int
    blocks: int

    @property
    def shuffled(self) -> bool:
        """Whether the order may be called random: by chance an effect of 2 is very rare."""
        return self.effect < _ORDERED

    def __str__(self) -> str:
        if self.blocks == 0:
            return "too few rows for their order to matter"
        what = (
            f"the means of {self.blocks} blocks of {self.block:,} rows vary {self.effect:.3g} times as much "
            f"as in random order (column {self.column!r}; {self.mean:.3g} on average)"
        )
        if self.shuffled:
            return f"the rows are well mixed: {what}"
        worth = max(self.block / self.effect, 1)
        return (
            f"the rows are ordered: {what}, so a block is worth {worth:,.0f} random rows; "
            f"shuffle them once with vigmm shuffle"
        )

    def to_dict(self) -> dict[str, Any]:
        """All values, JSON-ready."""
        return dataclasses.asdict(self)


def shuffle_audit(
    source: Source, *, block: int = BLOCK, blocks: int = _BLOCKS, seed: int = 0
) -> ShuffleAudit:
    """The design effect of reading blocks of neighbouring rows instead of random rows.

    For each column, with s^2 its variance and m_1 .. m_B the means of blocks of L rows,

        effect = L sum_b (m_b - m)^2 / ((B - 1) s^2),

    whose expectation is 1 if the rows are in random order, and whose standard deviation is sqrt(2 / (B - 1)).
    Values that are not finite are left out.

    Args:
        source: the rows.
        block: L, rows per block; fewer if there are not enough.
        blocks: B, how many blocks are read, spread over the source.
        seed: where in its share of the source each block lies.

    Example:
        >>> from vigmm.data.arrays import ArraySource
        >>> ordered = np.repeat(np.arange(8.0), 1000)[:, None]
        >>> str(shuffle_audit(ArraySource(ordered)))[:21]
        'the rows are ordered:'
    """
    rows = len(source)
    blocks = min(blocks, rows // _SHORTEST)
    if blocks < _FEWEST:
        return ShuffleAudit(effect=1.0, column=source.columns[0], mean=1.0, block=rows, blocks=0)
    length = min(block, rows // blocks)
    # A block somewhere in each of B equal shares: an order that comes and goes cannot hide between them.
    edges = np.linspace(0, rows, blocks + 1).astype(np.int64)
    free = np.diff(edges) - length
    starts = edges[:-1] + np.floor(np.random.default_rng(seed).random(blocks) * (free + 1)).astype(np.int64)
    found = [_of_block(source[start : start + length]) for start in starts.tolist()]
    count, total, square = (np.stack(one) for one in zip(*found, strict=True))
    effect = _effects(count, total, square)
    worst = int(np.argmax(effect))
    return ShuffleAudit(
        effect=float(effect[worst]),
        column=source.columns[worst],
        mean=float(effect.mean()),
        block=length,
        blocks=blocks,
    )


def _of_block(rows: Float[np.ndarray, "L D"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and sum of squares about the mean of the finite values, by column."""
    x = np.asarray(rows, np.float64)
    good = np.isfinite(x)
    count = good.sum(axis=0)
    mean = np.where(good, x, 0.0).sum(axis=0) / np.maximum(count, 1)
    return count, mean, np.sum(np.where(good, x - mean, 0.0) ** 2, axis=0)


def _effects(
    count: Float[np.ndarray, "B D"], mean: Float[np.ndarray, "B D"], within: Float[np.ndarray, "B D"]
) -> Float[np.ndarray, " D"]:
    """Variance between blocks over total variance, each by its degrees of freedom; 1 for constant columns."""
    total = count.sum(axis=0)
    centre = np.sum(count * mean, axis=0) / np.maximum(total, 1)
    between = np.sum(count * (mean - centre) ** 2, axis=0)
    used = (count > 0).sum(axis=0)
    variance = (between + within.sum(axis=0)) / np.maximum(total - 1, 1)
    effect = between / np.maximum(used - 1, 1)
    # A column that is constant but for rounding has no order.
    known = (used > 1) & (variance > (1e-12 * np.abs(centre)) ** 2)
    return np.where(known, effect / np.where(known, variance, 1.0), 1.0)
