"""Rows that stay where they are: a pass reads them in portions, in an order shuffled by blocks.

A source is cut into *blocks* of neighbouring rows: row groups where only whole ones can be read, else some
thousand rows, which is what a disk reads as fast as larger pieces. Every pass lays the blocks in a fresh
order and cuts that line of rows into M *portions* of nearly equal size, each a pool that fits the memory; in
its portion a row may be in any batch (`Minibatch`). With S batches in a portion, and every weight multiplied
by M S,

    mean over the M S steps of a pass of sum_b weight_b f(x_b) = sum_n weight_n f(x_n)                 (1)

exactly. What is not exact is independence: rows of one block come in one portion, so that data whose
neighbours resemble each other make noisier steps than shuffled data (see the design effect of
`vigmm.data.audit`), the less so the more blocks there are in a portion.

Of several processes each reads its own rows in this way, and a portion is made of a part from each: all
have the same number of portions, and portions as large as the largest share needs.

The order depends on (key, number of the pass) only. One thread reads ahead, two portions deep, and puts them
on the device; it reads, centres and casts in small chunks, so that the host holds four portions at most.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Key

from vigmm.core import rng
from vigmm.core.precision import precision
from vigmm.core.processes import Group
from vigmm.core.struct import require
from vigmm.data.device import standardised
from vigmm.data.feed import Feed, Layout, OneDevice, Portion
from vigmm.data.moments import Standardizer
from vigmm.data.protocol import CHUNK, Source
from vigmm.data.sampler import Minibatch, Rows

__all__ = ["BLOCK", "Stream", "block_ends"]

BLOCK = 2_048
"""Rows of a block, where any rows can be read: some hundred kilobytes, which a disk reads at full speed."""

_LEAST_BLOCK = 64
# A portion of fewer blocks is a poor mixture of data that are sorted.
_BLOCKS_OF_A_PORTION = 256
_MOST_BLOCKS = 1 << 20
_DEEP = 2


def block_ends(source: Source, portion: int) -> Int[np.ndarray, " blocks"]:
    """Where each block of a source ends, for portions of so many rows.

    A source may say by its attribute ``piece_ends`` that it reads whole pieces only, such as the row groups
    of a Parquet file: these are its blocks. Pieces larger than a portion are read more than once in a pass.
    """
    pieces = getattr(source, "piece_ends", None)
    if pieces is not None:
        ends: Int[np.ndarray, " blocks"] = np.asarray(pieces, np.int64)
        return ends
    size = max(_LEAST_BLOCK, min(BLOCK, portion // _BLOCKS_OF_A_PORTION), -(-len(source) // _MOST_BLOCKS))
    return np.minimum(np.arange(1, -(-len(source) // size) + 1, dtype=np.int64) * size, len(source))


@dataclasses.dataclass(frozen=True)
class Stream:
    """All rows of a source but the held-out ones, standardised as they are read.

    Args:
        source: rows in the user's units: this process's share of them.
        standardizer: centring and scaling.
        dtype: float type on the device.
        portion: the most rows of a portion, over all processes.
        weight: sample weights of these rows; ones by default.
        without: sorted numbers of the rows that are held out: they are read and get weight 0.
        missing: whether NaN stands for a missing value.
        fill: whether missing values are replaced by 0, a column's mean.
        layout: how portions come to lie on devices.
    """

    source: Source
    standardizer: Standardizer
    dtype: Any
    portion: int
    weight: Float[np.ndarray, " N"] | None = None
    without: Int[np.ndarray, " held"] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    missing: bool = False
    fill: bool = False
    layout: Layout = dataclasses.field(default_factory=OneDevice)

    def __post_init__(self) -> None:
        require(self.portion >= 1, "portion", ">= 1", self.portion)

    @property
    def group(self) -> Group:
        """The processes that have the rows."""
        return self.layout.group

    @functools.cached_property
    def _counts(self) -> list[int]:
        """Rows of every process."""
        return self.group.counts(len(self.source))

    @property
    def num_rows(self) -> int:
        """N, held-out rows included: they are read like the others."""
        return sum(self._counts)

    @property
    def dim(self) -> int:
        """D."""
        return self.source.dim

    @functools.cached_property
    def _weight(self) -> float:
        if self.weight is None:
            mine = float(len(self.source) - len(self.without))
        else:
            mine = float(self.weight.sum() - self.weight[self.without].sum())
        return float(self.group.total(np.array(mine)))

    def total_weight(self) -> float:
        """Sum of the weights of the rows that are not held out."""
        return self._weight

    def filled(self) -> Stream:
        """The same with 0 for what is missing."""
        return dataclasses.replace(self, fill=True)

    @property
    def num_portions(self) -> int:
        """M, the same for all processes."""
        most = max(1, self.portion // self.group.count)
        return max(-(-count // most) for count in self._counts)

    @property
    def rows_per_portion(self) -> int:
        """Rows of this process's part of a portion; the last ones may be there to fill it up."""
        return -(-len(self.source) // self.num_portions)

    def pieces(self) -> Iterator[Rows]:
        """This process's rows in the source's own order and with their own weights, in parts of portions."""
        size, count = self.rows_per_portion, len(self.source)
        for start in range(0, count, size):
            yield OneDevice().put(*self._read([(start, min(start + size, count))], 1.0))

    @contextlib.contextmanager
    def feed(self, sampler: Minibatch, key: Key[Array, ""]) -> Iterator[Feed]:
        """Portions for the batches of `sampler`, read ahead by a thread while the context lasts."""
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="vigmm-read") as reader:
            try:
                yield _StreamFeed(self, sampler, key, reader)
            finally:
                reader.shutdown(wait=True, cancel_futures=True)

    def _read(
        self, ranges: list[tuple[int, int]], times: float
    ) -> tuple[Float[np.ndarray, "P D"], Float[np.ndarray, " P"]]:
        """Some ranges of rows, in order, and their weights multiplied; filled up to a portion."""
        size = self.rows_per_portion
        # Fresh memory for every portion: on CPU `device_put` may alias it.
        x, weight = np.zeros((size, self.dim), self.dtype), np.zeros(size, self.dtype)
        at = 0
        for first, last in ranges:
            for start in range(first, last, CHUNK):
                stop = min(start + CHUNK, last)
                part = standardised(
                    self.source, self.standardizer, slice(start, stop), self.dtype, missing=self.missing
                )
                x[at : at + stop - start] = np.nan_to_num(part, copy=False) if self.fill else part
                heavy = times if self.weight is None else times * self.weight[start:stop]
                weight[at : at + stop - start] = heavy
                held = self.without[
                    np.searchsorted(self.without, start) : np.searchsorted(self.without, stop)
                ]
                weight[at + held - start] = 0
                at += stop - start
        return x, weight


class _StreamFeed:
    """Portions by step, read ahead.

    Args:
        stream: the rows.
        sampler: cuts batches out of portions.
        key: decides the order.
        reader: one thread.
    """

    def __init__(
        self,
        stream: Stream,
        sampler: Minibatch,
        key: Key[Array, ""],
        reader: concurrent.futures.ThreadPoolExecutor,
    ) -> None:
        self._stream, self._reader = stream, reader
        self._key = rng.at_step(key, stream.group.index)
        self._reshuffle = sampler.reshuffle
        self._shares = stream.layout.shares(stream.rows_per_portion)
        self.sampler, self.mesh = self._shares.sampler(sampler), self._shares.mesh
        self._ends = block_ends(stream.source, stream.portion)
        self._steps = self.sampler.steps_per_epoch(stream.rows_per_portion)
        self.steps_per_pass = self._steps * stream.num_portions
        self._order: tuple[int, Int[np.ndarray, " blocks"]] | None = None
        self._coming: dict[int, concurrent.futures.Future[Rows]] = {}
        self.waited = 0.0

    def at(self, step: int) -> Portion:
        """The portion of a step; those that come after it are begun."""
        number = step // self._steps
        for other in [one for one in self._coming if not number <= one <= number + _DEEP]:
            self._coming.pop(other).cancel()
        for one in range(number, number + _DEEP + 1):
            if one not in self._coming:
                self._coming[one] = self._reader.submit(self._portion, one)
        began = time.perf_counter()
        rows = self._coming[number].result()
        self.waited += time.perf_counter() - began
        return Portion(rows, (number + 1) * self._steps)

    def _portion(self, number: int) -> Rows:
        stream = self._stream
        epoch, part = divmod(number, stream.num_portions)
        small, extra = divmod(len(stream.source), stream.num_portions)
        start = part * small + min(part, extra)
        ranges = self._ranges(epoch if self._reshuffle else 0, start, start + small + (part < extra))
        x, weight = stream._read(ranges, float(stream.num_portions))
        # The type is enabled per thread, and this is the reader's.
        with precision(np.dtype(stream.dtype).name):
            return self._shares.put(x, weight)

    def _ranges(self, epoch: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges of row numbers that lie from `start` to `stop` in the order of a pass, sorted and joined."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, rng.on_host(rng.at_step(self._key, epoch)).permutation(len(self._ends))
        order = self._order[1]
        firsts = np.concatenate([[0], self._ends[:-1]])[order]
        sizes = (self._ends - np.concatenate([[0], self._ends[:-1]]))[order]
        after = np.cumsum(sizes)
        one, end = np.searchsorted(after, start, side="right"), np.searchsorted(after, stop, side="left") + 1
        lows = firsts[one:end] + np.maximum(start - (after - sizes)[one:end], 0)
        highs = firsts[one:end] + np.minimum(stop - (after - sizes)[one:end], sizes[one:end])
        found: list[tuple[int, int]] = []
        for low, high in sorted(zip(lows.tolist(), highs.tolist(), strict=True)):
            if found and found[-1][1] == low:
                found[-1] = found[-1][0], high
            elif high > low:
                found.append((low, high))
        return found
