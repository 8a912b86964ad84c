"""From a source on the host to standardised rows on the device, and the choice of held-out rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vigmm.core.effort import Program
from vigmm.core.errors import DataError
from vigmm.core.struct import require
from vigmm.data.moments import Standardizer
from vigmm.data.protocol import CHUNK, Source, blocks, check_finite, check_weight
from vigmm.data.sampler import Rows
from vigmm.math.cipher import permute

__all__ = ["holdout_index", "holdout_split", "to_rows"]

_permute = Program(permute, lambda *_: 0.0, static_argnums=1)  # some thousand numbers


def to_rows(
    source: Source,
    standardizer: Standardizer,
    dtype: Any,
    *,
    index: Int[np.ndarray, " n"] | None = None,
    weight: Float[np.ndarray, " N"] | None = None,
    chunk: int = CHUNK,
    missing: bool = False,
) -> Rows:
    """Standardise rows and put them on the device.

    Each chunk is centred and scaled in float64 and only then cast: at mean 1000 and sd 0.01 a float32 that
    is not centred has two digits left.

    Args:
        source: N rows in the user's units.
        standardizer: centring and scaling, usually of the training data.
        dtype: float type of the rows on the device.
        index: which rows, in this order; all by default.
        weight: sample weights of *all* N rows of the source (`index` applies to them too); ones by default.
        chunk: rows handled at a time on the host.
        missing: whether NaN stands for a missing value; it stays NaN.

    Returns:
        The rows and their weights, both in `dtype`.

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
    for start, block in blocks(source, index=index, size=chunk):
        check_finite(block, source, start=start, index=index, missing=missing)
        with np.errstate(over="ignore"):
            x[start : start + len(block)] = standardizer.forward(block)
        made = x[start : start + len(block)]
        if not (np.isfinite(made) | np.isnan(block)).all():
            raise DataError(f"{source.name} has values too far from the training data for {wanted.name}")
    if weight is None:
        heavy = np.ones(count, wanted)
    else:
        checked = check_weight(weight, len(source), source.name)
        heavy = (checked if index is None else checked[index]).astype(wanted)
    return Rows(x=jax.device_put(x), weight=jax.device_put(heavy))


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
    size = min(round(fraction * n), n - 1)
    size = size if limit is None else min(size, limit)
    if size <= 0:
        return np.empty(0, np.int64)
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
