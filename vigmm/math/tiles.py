"""Sums over rows, tile by tile: working memory is that of one tile, whatever the batch.

`tiled_sum` sums any pytree over tiles; `tiled_value` does it for a scalar function and accumulates
its gradient in the same pass, so that differentiating a sum over a million rows keeps nothing but
one tile and one gradient alive.

Sums are compensated: what an addition rounds off is carried to the next. In float32 a plain sum of 200 tiles
of squares is wrong by up to 10 rounding errors of its size, this one by one; and the difference matters where
sums about the origin become a covariance.

References:
    Kahan (1965), Further remarks on reducing truncation errors, Communications of the ACM 8(1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vigmm.core.axes import sum_of_shares
from vigmm.core.typing import Batch

__all__ = ["LANES", "choose_tile", "tiled_sum", "tiled_value"]

# What is made of a tile, such as its B x K x D whitened rows, should stay in a core's cache. An accelerator
# starts a kernel for each operation of a tile, and wants large ones: compiled for an H100, a pass over a
# million rows (D = K = 64) is 70,000 kernels with tiles of 4 MiB and 1,400 with tiles of 256; a TPU keeps
# 64 MiB of vector memory.
_TILE_BYTES = {"cpu": 4 * 2**20, "tpu": 64 * 2**20}
_OTHER_TILE_BYTES = 256 * 2**20
LANES = 2
"""Tiles in one turn of the loop. XLA's CPU runtime works on what is independent at the same time: on two
cores a pass over 200,000 x 16 with K = 20 takes 36 ms where one tile at a time takes 44. But each lane is
compiled, for a second of CPU."""


def choose_tile(x: Float[Array, "B D"], width: int, *, backend: str | None = None) -> int:
    """Rows of x per tile so that `width` numbers for each take about 4 MiB, more on accelerators.

    Args:
        x: the rows, or an array of their shape.
        width: numbers that are made for each row.
        backend: what the program is for, where that is not what it is traced on.

    Returns:
        A power of two, or all rows.

    Example:
        >>> rows = jnp.zeros((200_000, 16))
        >>> choose_tile(rows, 20 * 16), choose_tile(rows[:100], 20 * 16)
        (2048, 100)
    """
    budget = _TILE_BYTES.get(backend or jax.default_backend(), _OTHER_TILE_BYTES)
    fit = max(budget // (max(width, 1) * x.dtype.itemsize), 128)
    return min(x.shape[0], 1 << (fit.bit_length() - 1))


def tiled_sum(f: Callable[[Batch], Any], batch: Batch, tile: int, *, lanes: int = LANES) -> Any:
    """Sum of f over tiles of `batch`, on all devices (`vigmm.core.axes`); f is zero where the weight is zero.

    Args:
        f: maps a tile (a `Batch` of `tile` rows) to a pytree of arrays.
        batch: B weighted rows.
        tile: rows per tile.
        lanes: tiles in one turn of the loop.
    """
    if tile >= batch.x.shape[0]:
        return sum_of_shares(f(batch))
    batch = _long_enough(batch, lanes * tile)
    (rows, dim), span = batch.x.shape, lanes * tile
    shapes = jax.eval_shape(f, jax.eval_shape(lambda: Batch(x=batch.x[:tile], weight=batch.weight[:tile])))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(turn: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        total, excess = carry
        # The last slice is taken where there are rows enough, and those that were read before count nothing:
        # a padded copy would be as large as the batch.
        due = turn * span
        x = lax.dynamic_slice_in_dim(batch.x, due, span).reshape(lanes, tile, dim)
        place = jnp.minimum(due, rows - span) + jnp.arange(span, dtype=jnp.int32)
        weight = jnp.where(place >= due, lax.dynamic_slice_in_dim(batch.weight, due, span), 0)
        weight = weight.reshape(lanes, tile)
        made = [f(Batch(x=x[lane], weight=weight[lane])) for lane in range(lanes)]
        # The sum of the lanes first: both are small against the total.
        term = jax.tree.map(lambda carried, *parts: functools.reduce(jnp.add, parts) - carried, excess, *made)
        new = jax.tree.map(jnp.add, total, term)
        return new, jax.tree.map(lambda new, total, term: (new - total) - term, new, total, term)

    # Not a scan over starts: that the counter is the index is what the compiler makes fast slices of.
    total, _ = lax.fori_loop(0, -(-rows // span), body, (zero, zero))
    return sum_of_shares(total)


def _long_enough(batch: Batch, span: int) -> Batch:
    """Filled up to `span` rows, those of one turn, by copies of the last row with weight zero.

    Copies, because a likelihood may not be finite at a row of zeros, and 0 x inf is NaN.
    """
    pad = max(span - batch.x.shape[0], 0)
    return Batch(x=jnp.pad(batch.x, ((0, pad), (0, 0)), mode="edge"), weight=jnp.pad(batch.weight, (0, pad)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def tiled_value(
    f: Callable[[Any, Batch], Float[Array, ""]], params: Any, batch: Batch, tile: int
) -> Float[Array, ""]:
    """Sum over tiles of f(params, tile), differentiable once with respect to `params` only.

    Value and gradient are accumulated in one pass over the rows: reverse-mode differentiation of
    the plain sum would store the residuals of every tile.
    """
    total: Array = tiled_sum(functools.partial(f, params), batch, tile)
    return total


def _fwd(f: Any, params: Any, batch: Batch, tile: int) -> tuple[Any, Any]:
    value, grads = tiled_sum(lambda piece: jax.value_and_grad(f)(params, piece), batch, tile)
    return value, (grads, batch)


def _bwd(f: Any, tile: int, residuals: Any, cotangent: Any) -> tuple[Any, Any]:
    grads, batch = residuals
    # Rows are data: nobody differentiates with respect to them, so their cotangent is zero.
    return jax.tree.map(lambda g: cotangent * g, grads), jax.tree.map(jnp.zeros_like, batch)


tiled_value.defvjp(_fwd, _bwd)
