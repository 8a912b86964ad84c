"""Sums over rows, tile by tile: working memory is that of one tile, whatever the batch.

`tiled_sum` sums any pytree over tiles; `tiled_value` does it for a scalar function and accumulates
its gradient in the same pass, so that differentiating a sum over a million rows keeps nothing but
one tile and one gradient alive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vigmm.core.typing import Batch

__all__ = ["choose_tile", "tiled_sum", "tiled_value"]

# The B x K x D whitened residuals of one tile should stay in a core's cache, on accelerators in L2.
_TILE_BYTES = 4 * 2**20


def choose_tile(rows: int, num_components: int, dim: int, *, itemsize: int = 4) -> int:
    """Rows per tile so that the K x D temporaries of a tile take about 4 MiB; a power of two.

    Example:
        >>> choose_tile(200_000, 20, 16), choose_tile(100, 20, 16)
        (2048, 100)
    """
    fit = max(_TILE_BYTES // (num_components * max(dim, 1) * itemsize), 128)
    return min(rows, 1 << (fit.bit_length() - 1))


def _split(batch: Batch, tile: int) -> Batch:
    """Reshape to (tiles, tile, ...), the last tile padded with rows of weight zero."""
    rows = batch.x.shape[0]
    count = -(-rows // tile)
    pad = count * tile - rows
    # Copies of the last row: a likelihood may not be finite at a row of zeros, and 0 x inf is NaN.
    x = jnp.pad(batch.x, ((0, pad), (0, 0)), mode="edge").reshape(count, tile, batch.x.shape[1])
    weight = jnp.pad(batch.weight, (0, pad)).reshape(count, tile)
    return Batch(x=x, weight=weight)


def tiled_sum(f: Callable[[Batch], Any], batch: Batch, tile: int) -> Any:
    """Sum of f over tiles of `batch`; `f` must give zero for rows of weight zero.

    Args:
        f: maps a tile (a `Batch` of `tile` rows) to a pytree of arrays.
        batch: B weighted rows.
        tile: rows per tile.
    """
    if tile >= batch.x.shape[0]:
        return f(batch)
    tiles = _split(batch, tile)
    first = jax.tree.map(lambda leaf: leaf[0], tiles)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(f, first))

    def body(total: Any, piece: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, f(piece)), None

    total, _ = lax.scan(body, zero, tiles)
    return total


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
