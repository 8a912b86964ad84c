"""Three ways to write one tile of the conjugate pass, compiled beside the engine's own step.

What the compiler keeps on the chip depends on how the tile is written, not only on what it computes:

- ``whitened``: distances |W_k x - b_k|^2 and scatter about each component's centre: B x K x D temporaries.
- ``full``: one matrix of monomials f(x) = [x_i x_j, x, 1] for all (i, j), and two matrix products with it:
  log densities M f(x) and statistics r f(x)^T.
- ``packed``: the same with i <= j only: half the arithmetic, and features made from D slices.

The rounding of the two last is another question; they need rows near the origin. Tiles are slices of the rows
as they lie, the last one moved back until it is whole, with weight zero for what was seen: padding and
reshaping would copy the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.compile_only.cells import Cell, Floor, Problem, shape

__all__ = ["FORMS", "build"]

_HIGHEST = lax.Precision.HIGHEST


def _softmax(log_joint: Any, *, axis: int) -> tuple[Any, Any]:
    top = jnp.max(log_joint, axis=axis, keepdims=True)
    mass = jnp.exp(log_joint - top)
    total = jnp.sum(mass, axis=axis, keepdims=True)
    return mass / total, jnp.squeeze(top + jnp.log(total), axis)


def _whitened(parts: tuple[Any, ...], x: Any, weight: Any) -> Any:
    whitener, offset, constant, centre = parts
    white = jnp.einsum("bj,kij->bki", x, whitener, precision=_HIGHEST)
    square = jnp.sum((white - offset[None]) ** 2, axis=-1)
    shares, log_lik = _softmax(constant[None] - 0.5 * square, axis=-1)
    resp = weight[:, None] * shares
    shifted = x[None] - centre[:, None, :]
    scaled = resp.T[:, :, None] * shifted
    second = jnp.einsum("kbi,kbj->kij", scaled, shifted, precision=_HIGHEST)
    return jnp.sum(weight * log_lik), jnp.sum(resp, axis=0), jnp.sum(scaled, axis=1), second


def _full_features(columns: Any) -> Any:
    return (columns[:, None] * columns[None]).reshape(-1, columns.shape[1])


def _packed_features(columns: Any) -> Any:
    return jnp.concatenate([columns[i : i + 1] * columns[i:] for i in range(columns.shape[0])])


def _products(squares: Callable[[Any], Any]) -> Callable[..., Any]:
    def tile(parts: tuple[Any, ...], x: Any, weight: Any) -> Any:
        made = jnp.concatenate([squares(x.T), x.T, jnp.ones_like(x.T[:1])])
        log_joint = jnp.matmul(parts[0], made, precision=_HIGHEST)
        shares, log_lik = _softmax(log_joint, axis=0)
        resp = weight[None] * shares
        return jnp.sum(weight * log_lik), jnp.matmul(resp, made.T, precision=_HIGHEST)

    return tile


def _whitened_parts(dim: int, num: int) -> tuple[tuple[int, ...], ...]:
    return (num, dim, dim), (num, dim), (num,), (num, dim)


FORMS: dict[str, tuple[Callable[..., Any], Callable[[int, int], tuple[tuple[int, ...], ...]]]] = {
    "whitened": (_whitened, _whitened_parts),
    "full": (_products(_full_features), lambda dim, num: ((num, dim * dim + dim + 1),)),
    "packed": (_products(_packed_features), lambda dim, num: ((num, dim * (dim + 1) // 2 + dim + 1),)),
}


def build(cell: Cell, devices: list[Any]) -> Problem:
    """Sums over the rows of one device, tile by tile; there is no step around them."""
    tile, parts_of = FORMS[cell.method]
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    here = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
    parts = tuple(shape(dims, here) for dims in parts_of(cell.dim, cell.components))
    size = cell.tile or cell.batch
    x, weight = shape((cell.batch, cell.dim), here), shape((cell.batch,), here)

    def total(parts: Any, x: Any, weight: Any) -> Any:
        rows = x.shape[0]
        first = jax.eval_shape(tile, parts, x[:size], weight[:size])
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), first)

        def body(carry: Any, index: Any) -> tuple[Any, None]:
            start = jnp.minimum(index * size, rows - size)
            fresh = start + jnp.arange(size, dtype=jnp.int32) >= index * size
            piece = lax.dynamic_slice_in_dim(x, start, size)
            counted = jnp.where(fresh, lax.dynamic_slice_in_dim(weight, start, size), 0.0)
            return jax.tree.map(jnp.add, carry, tile(parts, piece, counted)), None

        return lax.scan(body, zero, jnp.arange(-(-rows // size), dtype=jnp.int32))[0]

    monomials = cell.dim * (cell.dim + 1) // 2 + cell.dim + 1
    params = 4 * cell.components * monomials
    floor = Floor(
        bytes=4 * cell.batch * (cell.dim + 1) + 2 * params,
        flops=4 * cell.batch * cell.components * monomials,
        params=params,
    )
    return Problem(jax.jit(total), (parts, x, weight), floor)
