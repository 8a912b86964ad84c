"""How far iterates have settled, judged from averages of equal blocks, in constant memory.

The iterates at one rate are averaged over blocks of b steps. When 2M blocks are full, neighbours are merged
and b doubles, so that there are always between M and 2M blocks of all iterates. A window is the last j
blocks, for j on a grid from M/2 to 2M: it grows with the run, and leaves out its beginning.

With y_1..y_j the block averages of one parameter in its unit (`units`, a part of q's own scale), d the
difference of the averages of the window's two halves, and r the correlation of neighbouring blocks:

    R-hat^2 = 1 + d^2 / 2                                                                         (1)
    se^2    = sum (y_i - mean y)^2 / (j (j - 1)) . (1 + r) / (1 - r)                              (2)

(1) is the split R-hat of draws of q itself, not of its iterates: those become the narrower the smaller the
rate, and their R-hat asks for halves that agree ever better than anybody who draws from q could see. (2) is
the standard error of the window's average by batch means (Flegal and Jones 2010); r is that of all parameters
together, because one parameter's r from a dozen blocks is noise, and it makes blocks that are shorter than
the iterates' memory, or that drift, count as fewer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.struct import state
from vigmm.math.linalg import einsum

__all__ = ["BLOCKS", "Verdict", "Windows", "add", "average", "begin", "judge", "units"]

# M and b at the beginning.
BLOCKS = 16
_FIRST = 8
# Lengths of windows, in blocks.
_GRID = (8, 12, 16, 20, 24, 28, 32)
# Correlation of neighbours from which on blocks are shorter than the iterates' memory.
_CORRELATED = 0.5
_MOST_MEMORY = 0.95


@state
class Windows:
    """Averages of blocks.

    Args:
        means: of the full blocks in order of time, then what is left of older ones.
        full: number of full blocks.
        length: steps in a block.
        opened: average of the block that is being filled.
        taken: steps in it.
    """

    means: Float[Array, "M2 P"]
    full: Int[Array, ""]
    length: Int[Array, ""]
    opened: Float[Array, " P"]
    taken: Int[Array, ""]


@state
class Verdict:
    """What the best of the windows says.

    Args:
        rhat: equation (1), the largest over parameters.
        error: root mean square over parameters of equation (2).
        noise: sum over parameters of the square of equation (2).
        steps: length of the window; 0 if there is none yet.
        settled: whether R-hat is below its limit.
    """

    rhat: Float[Array, ""]
    error: Float[Array, ""]
    noise: Float[Array, ""]
    steps: Int[Array, ""]
    settled: Bool[Array, ""]


def units(params: Any) -> Any:
    """What a difference of one counts as: 1/sqrt of the Fisher information of an uncorrelated q.

    That is the scale for a location and 1/sqrt(2) for a log scale; what else a family has is free of units.
    """
    ones = jax.tree.map(jnp.ones_like, params)
    if not (hasattr(params, "loc") and hasattr(params, "log_scale")):
        return ones
    loc = jax.tree.map(jnp.exp, params.log_scale)
    log_scale = jax.tree.map(lambda one: 0.5**0.5 * one, ones.log_scale)
    return dataclasses.replace(ones, loc=loc, log_scale=log_scale)


def begin(flat: Float[Array, " P"]) -> Windows:
    """Before the first step."""
    zero = jnp.zeros((), jnp.int32)
    means = jnp.zeros((2 * BLOCKS, flat.size), flat.dtype)
    return Windows(means=means, full=zero, length=zero + _FIRST, opened=jnp.zeros_like(flat), taken=zero)


def add(windows: Windows, flat: Float[Array, " P"]) -> tuple[Windows, Bool[Array, ""]]:
    """One more iterate; and whether it filled a block."""
    taken = windows.taken + 1
    opened = windows.opened + (flat - windows.opened) / taken.astype(flat.dtype)
    closes = taken >= windows.length
    made = Windows(means=windows.means, full=windows.full, length=windows.length, opened=opened, taken=taken)
    return lax.cond(closes, _close, lambda same: same, made), closes


def _close(windows: Windows) -> Windows:
    """Put the block that is full beside the others, and merge neighbours where there is no room left."""
    means = lax.dynamic_update_index_in_dim(windows.means, windows.opened, windows.full, 0)
    full = windows.full + 1
    merged = jnp.concatenate([0.5 * (means[::2] + means[1::2]), means[:BLOCKS]])
    crowded = full == 2 * BLOCKS
    return Windows(
        means=jnp.where(crowded, merged, means),
        full=jnp.where(crowded, BLOCKS, full),
        length=jnp.where(crowded, 2 * windows.length, windows.length),
        opened=jnp.zeros_like(windows.opened),
        taken=jnp.zeros_like(windows.taken),
    )


def average(windows: Windows, steps: Int[Array, ""]) -> Float[Array, " P"]:
    """The mean of the last `steps` iterates of full blocks."""
    at = jnp.arange(2 * BLOCKS)
    inside = (at < windows.full) & (at >= windows.full - steps // windows.length)
    weight = inside.astype(windows.means.dtype)
    return einsum("m,mp->p", weight, windows.means) / jnp.sum(weight)


def judge(windows: Windows, unit: Float[Array, " P"], *, limit: float, fewest: int) -> Verdict:
    """The window of least standard error among those that have settled; or else that of least R-hat.

    Args:
        windows: averages of blocks.
        unit: what a difference of one counts as; see `units`.
        limit: largest R-hat of a window that has settled.
        fewest: steps in the shortest window.
    """
    at = jnp.arange(2 * BLOCKS)
    # About the last of them, and in units: sums of what is left lose nothing in float32.
    last = lax.dynamic_index_in_dim(windows.means, jnp.maximum(windows.full - 1, 0), keepdims=True)
    means = (windows.means - last) / unit[None]

    def look(size: Int[Array, ""]) -> tuple[Array, Array, Array]:
        first = windows.full - size
        inside = ((at >= first) & (at < windows.full)).astype(unit.dtype)
        late = inside * (at >= first + size // 2).astype(unit.dtype)
        count = size.astype(unit.dtype)
        middle = einsum("m,mp->p", inside, means) / count
        apart = 2.0 * (einsum("m,mp->p", late, means) / (0.5 * count) - middle)
        off = inside[:, None] * (means - middle[None])
        square = jnp.sum(off**2)
        # Of independent blocks about their own mean it is -1/j.
        memory = jnp.sum(off[1:] * off[:-1]) / square + 1.0 / count
        memory = jnp.clip(memory, 0.0, _MOST_MEMORY)
        noise = square / (count * (count - 1.0)) * (1.0 + memory) / (1.0 - memory)
        return jnp.sqrt(1.0 + 0.5 * jnp.max(apart**2)), noise, memory

    sizes = jnp.asarray(_GRID, jnp.int32)
    rhat, noise, memory = lax.map(look, sizes)
    there = (sizes <= windows.full) & (sizes * windows.length >= fewest)
    # What is not a number is nothing to choose.
    there = there & jnp.isfinite(rhat) & jnp.isfinite(noise)
    settled = there & (rhat < limit) & (memory < _CORRELATED)
    quiet = jnp.argmin(jnp.where(settled, noise, jnp.inf))
    level = jnp.argmin(jnp.where(there, rhat, jnp.inf))
    best = jnp.where(jnp.any(settled), quiet, level)
    return Verdict(
        rhat=rhat[best],
        error=jnp.sqrt(noise[best] / unit.size),
        noise=noise[best],
        steps=jnp.where(there[best], sizes[best] * windows.length, 0),
        settled=settled[best],
    )
