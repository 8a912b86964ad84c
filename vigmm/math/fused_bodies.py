"""What one program of a fused kernel does: log norms of a tile of rows, or statistics of a few components.

Written for Pallas and its Triton compiler: arrays are tensors in registers whose sides are powers of two,
of at least 16 where they are multiplied, and nothing but a reference can be sliced. Columns are taken in
chunks, of which a triangle of pairs is worked on: a whitener is lower triangular, and a second moment is
symmetric.

Rows beyond the last are the last again, with weight zero, and columns beyond the last are the last again,
against zeros in the whiteners: no element is ever made up, so that nothing is not finite that was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

__all__ = ["Tiling", "log_norms", "moments"]

# Columns, or rows, that a product runs over at once: what it reads has to be in registers.
_DEPTH = 16


@dataclass(frozen=True)
class Tiling:
    """Sizes of a kernel, all known when it is compiled.

    Args:
        rows: B.
        dim: D, the columns of the rows.
        padded: columns of the whiteners, a power of two.
        chunk: columns that are worked on at once.
        tile: rows that are worked on at once.
        span: tiles that are added up before they are added to the total.
        length: rows that one program reads, a multiple of `tile` times `span`.
        group: components that one program works on.
        warps: of 32 threads, that share its work.
        whole: whether the group is all components, whose log norms are made on the way.
    """

    rows: int
    dim: int
    padded: int
    chunk: int
    tile: int
    span: int
    length: int
    group: int
    warps: int
    whole: bool = False

    @property
    def chunks(self) -> int:
        """How many chunks of columns there are."""
        return self.padded // self.chunk


Load = Callable[[Any, int], Float[Array, "T C"]]


def log_norms(sizes: Tiling, x: Any, level: Any, whitener: Any, offset: Any, out: Any) -> None:
    """Log sum_k exp(level_k - |W_k x - b_k|^2 / 2) of a tile of rows, one component after the other."""
    last = sizes.rows - 1 - pl.program_id(1) * sizes.length
    load = _loader(sizes, x, jnp.int32(0), sizes.tile, last)
    shared = whitener.shape[0] == 1

    def one(k: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        top, mass = carry
        joint = level[k] - 0.5 * _square(sizes, load, whitener, 0 if shared else k, offset, k)
        new = jnp.maximum(top, joint)
        base = _finite(new)
        return new, mass * jnp.exp(top - base) + jnp.exp(joint - base)

    nothing = jnp.full((sizes.tile,), -jnp.inf, jnp.float32)
    top, mass = lax.fori_loop(*_range(level.shape[0]), one, (nothing, jnp.zeros_like(nothing)))
    out[...] = _finite(top) + jnp.log(mass)


def moments(
    sizes: Tiling, x: Any, weight: Any, level: Any, whitener: Any, offset: Any, centre: Any, *others: Any
) -> None:
    """Count and moments about the centres of a group of components, over a range of rows.

    `others` are the log norms, which are read, or made where the group is all components; and the results.
    """
    norm, count, first, second = (others[3], *others[:3]) if sizes.whole else others
    last = sizes.rows - 1 - pl.program_id(2) * sizes.length

    def some(turn: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        total, excess = carry

        def one(place: Any, sums: Any) -> Any:
            at = turn * sizes.span + place
            return _tile(sizes, x, weight, norm, (level, whitener, offset, centre), at, last, sums)

        made = lax.fori_loop(*_range(sizes.span), one, _zero(sizes))
        # What this addition rounds off is carried to the next (`vigmm.math.tiles`).
        term = jax.tree.map(jnp.subtract, made, excess)
        new = jax.tree.map(jnp.add, total, term)
        return new, jax.tree.map(lambda new, total, term: (new - total) - term, new, total, term)

    turns = sizes.length // (sizes.span * sizes.tile)
    total, _ = lax.fori_loop(*_range(turns), some, (_zero(sizes), _zero(sizes)))
    for k, (n, linear, squares) in enumerate(total):
        count[k] = n
        for i, values in enumerate(linear):
            first[k, _at(sizes, i)] = values
        for (i, j), values in squares.items():
            second[k, _at(sizes, i), _at(sizes, j)] = values
            if i != j:
                second[k, _at(sizes, j), _at(sizes, i)] = values.T


def _tile(sizes: Tiling, x: Any, weight: Any, norm: Any, forms: Any, at: Any, last: Any, total: Any) -> Any:
    """The sums of `_zero`, and those over one tile."""
    level, whitener, offset, centre = forms
    begin = at * sizes.tile
    place = begin + jnp.arange(sizes.tile, dtype=jnp.int32)
    row = jnp.minimum(place, last)
    load = _loader(sizes, x, begin, sizes.tile, last)
    shared = whitener.shape[0] == 1
    joints = [
        level[k] - 0.5 * _square(sizes, load, whitener, 0 if shared else k, offset, k)
        for k in range(sizes.group)
    ]
    if sizes.whole:
        top = functools.reduce(jnp.maximum, joints)
        base = _finite(top)
        log_norm = base + jnp.log(functools.reduce(jnp.add, [jnp.exp(joint - base) for joint in joints]))
        norm[pl.ds(begin, sizes.tile)] = log_norm
    else:
        log_norm = norm[row]
    heavy = jnp.where(place <= last, weight[row], 0.0)
    shares = [heavy * jnp.exp(joint - log_norm) for joint in joints]

    def add(step: Any, total: Any) -> Any:
        few = _loader(sizes, x, begin + step * _DEPTH, _DEPTH, last)
        columns = [few(i * sizes.chunk, sizes.chunk) for i in range(sizes.chunks)]
        made = [_moments(sizes, columns, _part(share, step), centre, k) for k, share in enumerate(shares)]
        return jax.tree.map(jnp.add, total, made)

    return lax.fori_loop(*_range(sizes.tile // _DEPTH), add, total)


def _moments(sizes: Tiling, columns: list[Array], share: Array, centre: Any, k: int) -> Any:
    """One component's sums of `_zero` over a few rows."""
    shifted = [column - centre[k, _at(sizes, i)][None] for i, column in enumerate(columns)]
    scaled = [share[:, None] * column for column in shifted]
    squares = {(i, j): _product(scaled[i].T, shifted[j]) for i, j in _pairs(sizes)}
    return jnp.sum(share), [jnp.sum(column, axis=0) for column in scaled], squares


def _part(values: Float[Array, " T"], step: Any) -> Array:
    """The step-th few of the values of a tile: registers cannot be sliced."""
    parts = values.reshape(-1, _DEPTH)
    mine = jnp.arange(parts.shape[0], dtype=jnp.int32)[:, None] == step
    return jnp.sum(jnp.where(mine, parts, 0.0), axis=0)


def _zero(sizes: Tiling) -> list[Any]:
    """For each component of a group a count, the chunks of a vector, and the lower blocks of a matrix."""
    linear = [jnp.zeros((sizes.chunk,), jnp.float32) for _ in range(sizes.chunks)]
    squares = {pair: jnp.zeros((sizes.chunk, sizes.chunk), jnp.float32) for pair in _pairs(sizes)}
    return [(jnp.float32(0.0), linear, squares)] * sizes.group


def _square(
    sizes: Tiling, load: Load, whitener: Any, matrix: Any, offset: Any, vector: Any
) -> Float[Array, " T"]:
    """|W x - b|^2 of each row of a tile; of W only the lower triangle of chunks is read."""
    total = jnp.zeros((sizes.tile,), jnp.float32)
    for i in range(sizes.chunks):

        def add(step: Any, white: Array, i: int = i) -> Array:
            begin = step * _DEPTH
            piece = whitener[matrix, _at(sizes, i), pl.ds(begin, _DEPTH)]
            return white + _product(load(begin, _DEPTH), piece.T)

        steps = (i + 1) * sizes.chunk // _DEPTH
        white = lax.fori_loop(*_range(steps), add, jnp.zeros((sizes.tile, sizes.chunk), jnp.float32))
        total = total + jnp.sum((white - offset[vector, _at(sizes, i)][None]) ** 2, axis=1)
    return total


def _loader(sizes: Tiling, x: Any, begin: Any, rows: int, last: Any) -> Load:
    """From a first column and a number of columns to these of the rows from `begin` on."""
    row = jnp.minimum(begin + jnp.arange(rows, dtype=jnp.int32), last)

    def load(first: Any, size: int) -> Float[Array, "T C"]:
        column = first + jnp.arange(size, dtype=jnp.int32)
        if sizes.dim < sizes.padded:
            column = jnp.minimum(column, sizes.dim - 1)
        found: Array = x[row[:, None], column[None]]
        return found

    return load


def _product(left: Float[Array, "M C"], right: Float[Array, "C N"]) -> Float[Array, "M N"]:
    # Without a word Triton would multiply with ten bits of mantissa.
    return lax.dot(left, right, precision=lax.Precision.HIGHEST)


def _finite(top: Float[Array, " T"]) -> Float[Array, " T"]:
    """What is subtracted before the exponential: zero where all components so far are out of use."""
    return jnp.where(top == -jnp.inf, 0.0, top)


def _range(stop: int) -> tuple[np.int32, np.int32]:
    """Bounds of a loop whose counter is an int32 in double precision as well."""
    return np.int32(0), np.int32(stop)


def _at(sizes: Tiling, chunk: int) -> Any:
    return pl.ds(chunk * sizes.chunk, sizes.chunk)


def _pairs(sizes: Tiling) -> list[tuple[int, int]]:
    return [(i, j) for i in range(sizes.chunks) for j in range(i + 1)]
