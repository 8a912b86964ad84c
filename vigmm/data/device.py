"""From a source on the host to standardised rows on the device, and the choice of held-out rows."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vigmm.core import rng
from vigmm.core.effort import Program
from vigmm.core.errors import DataError
from vigmm.core.struct import require
from vigmm.data.feed import OneDevice
from vigmm.data.moments import Standardizer
from vigmm.data.protocol import CHUNK, Index, Source, check_finite, check_weight
from vigmm.data.sampler import Rows
from vigmm.math.cipher import MAX_LENGTH, permute

__all__ = [
    "chosen_rows",
    "fits",
    "holdout_index",
    "holdout_size",
    "holdout_split",
    "host_rows",
    "standardised",
    "to_rows",
]

# Rows whose float64 form stays in a core's cache: twice as fast as a whole chunk.
_AT_ONCE = 2_048
_permute = Program(permute, lambda *_: 0.0, static_argnums=1)  # some thousand numbers


def to_rows(source: Source, standardizer: Standardizer, dtype: Any, **which: Any) -> Rows:
    """Standardise rows and put them on the device; the arguments are those of `host_rows`.

    Returns:
        The rows and their weights, both in `dtype`.
    """
    return OneDevice().put(*host_rows(source, standardizer, dtype, **which))


def host_rows(
    source: Source,
    standardizer: Standardizer,
    dtype: Any,
    *,
    index: Int[np.ndarray, " n"] | None = None,
    weight: Float[np.ndarray, " N"] | None = None,
    chunk: int = CHUNK,
    missing: bool = False,
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, " n"]]:
    """Standardise rows.

    Each chunk is centred and scaled in float64 and only then cast: at mean 1000 and sd 0.01 a float32 that
    is not centred has two digits left.

    Args:
        source: N rows in the user's units.
        standardizer: centring and scaling, usually of the training data.
        dtype: float type of the rows on the device.
        index: which rows, in this order; all by default.
        weight: sample weights of *all* N rows of the source (`index` applies to them too); ones by default.
            They may all be zero: the source may be a share of all rows.
        chunk: rows handled at a time on the host.
        missing: whether NaN stands for a missing value; it stays NaN.

    Returns:
        The rows and their weights, both in `dtype`, in memory of their own.

    Raises:
        DataError: if the source has another number of columns than the standardizer, or a value that is
            not finite.
        SpecError: if `dtype` is not a float type that JAX has enabled.
    """
    wanted = np.dtype(dtype)
    enabled = jnp.issubdtype(wanted, jnp.floating) and jax.dtypes.canonicalize_dtype(wanted) == wanted
    require(enabled, "dtype", "a float type that JAX has enabled (float64 needs jax_enable_x64)", wanted.name)
    if source.dim != standardizer.dim:
        raise DataError(
            f"{source.name} has {source.dim} columns ({', '.join(source.columns[:20])}), but "
            f"{standardizer.dim} are expected: give the columns of the training data, in their order"
        )
    count = len(source) if index is None else len(index)
    # Fresh memory for every call: on CPU `device_put` may alias it, so nobody else may ever write to it.
    x = np.empty((count, source.dim), wanted)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        part = slice(start, stop) if index is None else index[start:stop]
        x[start:stop] = standardised(source, standardizer, part, wanted, missing=missing)
    if weight is None:
        heavy = np.ones(count, wanted)
    else:
        checked = check_weight(weight, len(source), source.name, group=None)
        heavy = (checked if index is None else checked[index]).astype(wanted)
    return x, heavy


def standardised(
    source: Source, standardizer: Standardizer, index: Index, dtype: np.dtype[Any], *, missing: bool
) -> Float[np.ndarray, "n D"]:
    """Some rows in the units of training, checked.

    Args:
        source: where the rows are.
        standardizer: centring and scaling, in float64.
        index: which rows.
        dtype: float type of the result.
        missing: whether NaN stands for a missing value; it stays NaN.

    Raises:
        DataError: for a value that is not finite, there or in `dtype`, naming its row and column.
    """
    block = source[index]
    made: np.ndarray = np.empty(block.shape, dtype)
    with np.errstate(over="ignore"):
        for at in range(0, len(block), _AT_ONCE):
            made[at : at + _AT_ONCE] = standardizer.forward(block[at : at + _AT_ONCE])
    if not np.isfinite(made).all():  # else the block is finite too
        first = index.indices(len(source))[0] if isinstance(index, slice) else 0
        numbers = None if isinstance(index, slice) else index
        check_finite(block, source, start=first, index=numbers, missing=missing)
        if not (np.isfinite(made) | np.isnan(block)).all():
            raise DataError(f"{source.name} has values too far from the training data for {dtype.name}")
    return made


def fits(rows: int, dim: int, dtype: Any) -> bool:
    """Whether so many rows and their weights may stay in memory: they take a quarter of it at most.

    Of the device's own memory, or of this machine's where the device is a CPU (or says nothing). It depends
    on nothing that changes from run to run, so that the same run is done in the same way.
    """
    needed: int = rows * (dim + 1) * np.dtype(dtype).itemsize
    return needed <= _memory() / 4


def _memory() -> float:
    """Bytes of memory that rows could use if nothing else did."""
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    if limit is not None:
        return float(limit)
    found = [math.inf]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ValueError, OSError):  # a container may have less than its machine
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def holdout_index(
    n: int, fraction: float, limit: int | None, key: Key[Array, ""]
) -> Int[np.ndarray, " n_heldout"]:
    """Numbers of the rows to hold out: a uniform draw without replacement.

    Args:
        n: number of rows.
        fraction: part to hold out, in [0, 1).
        limit: the most rows to hold out; None for no limit.
        key: chooses the rows.

    Returns:
        min(round(fraction * n), limit) different row numbers, never all of them, and sorted, so that files
        are read in order.

    Example:
        >>> len(holdout_index(1000, 0.05, 20, jax.random.key(0)))
        20
    """
    require(0 <= fraction < 1, "fraction", ">= 0 and < 1", fraction)
    require(limit is None or limit >= 0, "limit", ">= 0", limit)
    return chosen_rows(n, holdout_size(n, fraction, limit), key)


def holdout_size(n: int, fraction: float, limit: int | None) -> int:
    """How many of `n` rows are held out; never all of them."""
    size = max(min(round(fraction * n), n - 1), 0)
    return size if limit is None else min(size, limit)


def chosen_rows(n: int, size: int, key: Key[Array, ""]) -> Int[np.ndarray, " n_chosen"]:
    """Numbers of `size` of `n` rows, drawn uniformly without replacement, sorted."""
    if size <= 0:
        return np.empty(0, np.int64)
    if n > MAX_LENGTH:
        return np.sort(rng.on_host(key).choice(n, size, replace=False, shuffle=False))
    return np.sort(np.asarray(_permute(np.arange(size, dtype=np.int32), n, key)).astype(np.int64))


def holdout_split(
    n: int, fraction: float, limit: int | None, key: Key[Array, ""]
) -> tuple[Int[np.ndarray, " n_train"], Int[np.ndarray, " n_heldout"]]:
    """Numbers of the training rows and of the held-out rows, both sorted; together they are all n.

    Args:
        n: number of rows.
        fraction: part to hold out, in [0, 1); 0 holds nothing out.
        limit: the most rows to hold out; None for no limit.
        key: chooses the rows.
    """
    heldout = holdout_index(n, fraction, limit, key)
    train = np.ones(n, np.bool_)
    train[heldout] = False
    return np.flatnonzero(train), heldout
