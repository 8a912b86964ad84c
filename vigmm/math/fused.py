"""A pass over rows in one or two kernels for a GPU: nothing that is made of a row leaves the chip.

For S mixtures of K components with joint densities of log a_k(x) = c_k - |W_k x - b_k|^2 / 2, W_k lower
triangular,

    l_b = log sum_k a_k(x_b),    r_bk = a_k(x_b) / exp l_b                                              (1)
    n_k = sum_b w_b r_bk,    sum_b w_b r_bk (x_b - m_k),    sum_b w_b r_bk (x_b - m_k)(x_b - m_k)^T       (2)

A first kernel writes the B log norms and nothing else. In a second one each program has a few components
and a range of rows: it makes their densities again, and keeps their sums in registers. Where those of all
components fit there, the second does everything by itself. Device memory holds rows, log norms and the sums
of each range, of which there are as many as keep the processors busy; the compiler of the caller adds them
up, so that the result is the same in every run.

Products are exact in float32, and long sums are compensated. On a CPU the kernels are interpreted, which is
slow: that is for tests.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from vigmm.core.struct import state
from vigmm.core.typing import Batch
from vigmm.math import fused_bodies as bodies
from vigmm.math.fused_bodies import Tiling

__all__ = ["MOST_COLUMNS", "Forms", "Sums", "log_norms", "sums", "tilings"]

MOST_COLUMNS = 128
"""With more, the second moment of one component does not fit into the registers of a processor."""

# The least side of a product, and so of a chunk of columns.
_LEAST = 16
# Rows at a time of the kernel of log norms.
_NORM_TILE = 128
# Programs of a kernel: a few for each of the hundred-odd processors of a large GPU; tiles that are worth one;
# tiles whose plain sum is as exact as a matrix product of as many rows.
_PROGRAMS, _LEAST_TILES, _SPAN = 1024, 16, 64
_STAGES = 3


@state
class Forms:
    """S x K quadratic forms: log density level - |W x - b|^2 / 2; C is K, or 1 for one whitener for all."""

    level: Float[Array, "S K"]
    whitener: Float[Array, "S C D D"]
    offset: Float[Array, "S K D"]


@state
class Sums:
    """Equation (2): of each component, count and moments about its centre."""

    count: Float[Array, "S K"]
    first: Float[Array, "S K D"]
    second: Float[Array, "S K D D"]


def tilings(rows: int, dim: int, draws: int, components: int) -> tuple[Tiling, Tiling]:
    """Sizes of the kernel of log norms and of that of sums.

    Example:
        >>> norms, sums = tilings(100_000, 10, 1, 100)
        >>> norms.padded, norms.tile, sums.group, sums.length, sums.whole
        (16, 128, 4, 2560, False)
    """
    padded = max(_LEAST, 1 << (dim - 1).bit_length())
    group = min(components, max(64 // padded, 1))
    tile = 64 if padded > 32 else 32
    ranges = max(_PROGRAMS // (draws * -(-components // group)), 1)
    tiles = max(-(-rows // (ranges * tile)), _LEAST_TILES)
    turns = -(-tiles // _SPAN)
    span = -(-tiles // turns)
    norms = Tiling(
        rows=rows, dim=dim, padded=padded, chunk=max(_LEAST, padded // 2),
        tile=_NORM_TILE, span=1, length=_NORM_TILE, group=components, warps=4,
    )  # fmt: skip
    warps = max(padded**2 // 2048, 1)
    length, whole = turns * span * tile, group == components
    sums = replace(norms, tile=tile, span=span, length=length, group=group, warps=warps, whole=whole)
    return norms, sums


def log_norms(forms: Forms, x: Float[Array, "B D"]) -> Float[Array, "S B"]:
    """Equation (1): the log density of each row under each mixture.

    Args:
        forms: the mixtures; a level of -inf is out of use.
        x: the rows, of at most `MOST_COLUMNS` columns.
    """
    rows, dim = x.shape
    draws, num = forms.level.shape
    sizes, _ = tilings(rows, dim, draws, num)
    forms = _padded(forms, sizes.padded, num)
    found: Array = _on_chip(_norms, sizes, x, forms.level, forms.whitener, forms.offset)
    return found[:, :rows]


def sums(forms: Forms, centre: Float[Array, "S K D"], batch: Batch) -> tuple[Float[Array, "S B"], Sums]:
    """Equations (1) and (2).

    Args:
        forms: the mixtures; a level of -inf is out of use.
        centre: m_k, what the moments are about.
        batch: weighted rows, of at most `MOST_COLUMNS` columns.
    """
    rows, dim = batch.x.shape
    draws, num = forms.level.shape
    _, sizes = tilings(rows, dim, draws, num)
    slots = -(-num // sizes.group) * sizes.group
    norms = [] if sizes.whole else [log_norms(forms, batch.x)]
    forms = _padded(forms, sizes.padded, slots)
    centre = _filled(centre, (draws, slots, sizes.padded))
    found = _on_chip(
        _moments, sizes, batch.x, batch.weight, forms.level, forms.whitener, forms.offset, centre, *norms
    )
    # What it made comes last, or nothing does.
    (log_norm,) = norms or found[3:]
    count, first, second = (jnp.sum(part, axis=1)[:, :num] for part in found[:3])
    return log_norm[:, :rows], Sums(count=count, first=first[..., :dim], second=second[..., :dim, :dim])


def _on_chip(kernel: Any, sizes: Tiling, *arrays: Array) -> Any:
    """Compiled for a GPU, interpreted on a CPU: by the platform that the program is for."""
    compiled = functools.partial(kernel, sizes, False)
    return lax.platform_dependent(*arrays, cuda=compiled, cpu=functools.partial(kernel, sizes, True))


def _norms(sizes: Tiling, interpret: bool, *arrays: Array) -> Array:
    x, level, whitener, offset = arrays
    tiles = -(-x.shape[0] // sizes.tile)
    call = _call(
        bodies.log_norms,
        sizes,
        grid=(level.shape[0], tiles),
        in_specs=[
            pl.BlockSpec((sizes.tile, sizes.dim), lambda s, i: (i, 0)),
            *(_of_draw(array) for array in (level, whitener, offset)),
        ],
        out_specs=pl.BlockSpec((None, sizes.tile), lambda s, i: (s, i)),
        out_shape=_shape(level.shape[0], tiles * sizes.tile),
        interpret=interpret,
        name="log_norms",
    )
    found: Array = call(*arrays)
    return found


def _moments(sizes: Tiling, interpret: bool, *arrays: Array) -> Any:
    x, _, level, whitener, *_ = arrays
    (draws, slots), padded, group = level.shape, sizes.padded, sizes.group
    ranges = -(-x.shape[0] // sizes.length)
    matrices = min(group, whitener.shape[1])
    rows = pl.BlockSpec((sizes.length,), lambda s, g, r: (r,))
    norms = pl.BlockSpec((None, sizes.length), lambda s, g, r: (s, r))
    vectors = pl.BlockSpec((None, group, padded), lambda s, g, r: (s, g, 0))
    shared = whitener.shape[1] == 1
    in_specs = [
        pl.BlockSpec((sizes.length, sizes.dim), lambda s, g, r: (r, 0)),
        rows,
        pl.BlockSpec((None, group), lambda s, g, r: (s, g)),
        pl.BlockSpec((None, matrices, padded, padded), lambda s, g, r: (s, 0 if shared else g, 0, 0)),
        vectors,
        vectors,
    ]
    out_specs = [
        pl.BlockSpec((None, None, group), lambda s, g, r: (s, r, g)),
        pl.BlockSpec((None, None, group, padded), lambda s, g, r: (s, r, g, 0)),
        pl.BlockSpec((None, None, group, padded, padded), lambda s, g, r: (s, r, g, 0, 0)),
    ]
    out_shape = [_shape(draws, ranges, slots, *rest) for rest in ((), (padded,), (padded, padded))]
    if sizes.whole:
        out_specs, out_shape = [*out_specs, norms], [*out_shape, _shape(draws, ranges * sizes.length)]
    else:
        in_specs = [*in_specs, norms]
    call = _call(
        bodies.moments,
        sizes,
        grid=(draws, slots // group, ranges),
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        interpret=interpret,
        name="moments",
    )
    return call(*arrays)


def _call(body: Any, sizes: Tiling, **what: Any) -> Any:
    parameters = triton.CompilerParams(num_warps=sizes.warps, num_stages=_STAGES)
    return pl.pallas_call(functools.partial(body, sizes), compiler_params=parameters, **what)


def _of_draw(array: Array) -> pl.BlockSpec:
    """All of an array of one draw."""
    rest = array.shape[1:]
    return pl.BlockSpec((None, *rest), lambda s, i: (s, *(0 for _ in rest)))


def _shape(*dims: int) -> Any:
    return jax.ShapeDtypeStruct(dims, np.dtype(np.float32))  # type: ignore[no-untyped-call]


def _padded(forms: Forms, dim: int, slots: int) -> Forms:
    """With columns of zeros, and components that are out of use."""
    draws, matrices = forms.whitener.shape[:2]
    out = jnp.full((draws, slots - forms.level.shape[1]), -jnp.inf, forms.level.dtype)
    return Forms(
        level=jnp.concatenate([forms.level, out], axis=1),
        whitener=_filled(forms.whitener, (draws, 1 if matrices == 1 else slots, dim, dim)),
        offset=_filled(forms.offset, (draws, slots, dim)),
    )


def _filled(array: Array, shape: tuple[int, ...]) -> Array:
    """Zeros behind, up to a shape."""
    return jnp.pad(array, [(0, new - old) for new, old in zip(shape, array.shape, strict=True)])
