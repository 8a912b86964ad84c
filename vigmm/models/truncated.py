"""A pass that looks at few of very many components: each row at those that are likely where it is.

With q(z_b = k) = 0 for every k outside a set C_b of components, the likelihood term of the bound is

    sum_b w_b log sum_{k in C_b} exp(E[log pi_k] + E[log N_k(x_b)])                                     (1)

which is a lower bound of the sum over all k whatever the sets are: the ELBO of a restricted q, tight where
responsibilities outside are negligible. Coordinate steps raise it as long as the sets do not change.

The sets come from a spherical likeness of each component: the same mean, weight and determinant. Components
are in M = 4 K / C groups of near ones. A row belongs to the group of its likeliest likeness, which takes K D
multiplications, and looks at C components: those of the group, and those whose likenesses are likeliest at
its means. With C D^2 multiplications for the densities themselves, 64 times as many components are a few
times the work. Rows are put in blocks of one group each, so that a block shares what is gathered for it:
batches of many rows for each group are the efficient ones.

References:
    Lücke and Eggert (2010), Expectation truncation, JMLR 11; Salwig and Lücke (2026), JMLR, who keep a set
    for each row instead.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vigmm.core.typing import Batch
from vigmm.math.linalg import einsum
from vigmm.math.rows import largest, softmax
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models.mixture import Components, Mixture

__all__ = ["gather_few"]

# Rows that share their candidates: enough to make a gather of matrices cheap. A group's last is not full.
_BLOCK = 32
# Candidates of a group for each component in it: rows at the rim need those of other groups.
_SHARE = 4
_LLOYD_STEPS = 4


def gather_few(
    model: Mixture, theta: Components, batch: Batch, centre: Float[Array, "K D"], candidates: int
) -> tuple[Float[Array, ""], Any]:
    """The sum (1), and the statistics of its responsibilities about `centre`.

    Args:
        model: a mixture with a conjugate posterior.
        theta: expected log weights and components.
        batch: weighted rows.
        centre: what the statistics are about.
        candidates: C, below K.
    """
    num, dim = centre.shape
    slopes, level = _likeness(theta)
    num_groups = min(num, -(-_SHARE * num // candidates))
    group = _groups(theta.parts.loc, num_groups)
    score = _scores(theta.parts.loc, slopes, level, group, num_groups)
    near = jax.lax.top_k(score, candidates)[1]
    owner = group[_likeliest(batch.x, slopes, level)]

    def one(piece: Batch) -> tuple[Array, Any]:
        blocks = piece.x.reshape(-1, _BLOCK, dim + 1)
        chosen = near[blocks[:, 0, dim].astype(jnp.int32)]

        def block(
            x: Float[Array, "T D"], weight: Float[Array, " T"], chosen: Int[Array, " C"]
        ) -> tuple[Array, Any]:
            shares, log_norm = softmax(model.log_joint(_subset(theta, chosen), x), dim=dim)
            stats = model.algebra.stats(x, weight[:, None] * shares, centre[chosen])
            return jnp.sum(weight * log_norm), stats

        value, stats = jax.vmap(block)(blocks[:, :, :dim], piece.weight.reshape(-1, _BLOCK), chosen)
        return jnp.sum(value), jax.tree.map(lambda leaf: _scattered(leaf, chosen, num), stats)

    rows = choose_tile(batch.x, candidates * (dim + 2 * dim * dim // _BLOCK))
    found: tuple[Array, Any] = tiled_sum(
        one, _in_blocks(batch, owner, near.shape[0]), -(-rows // _BLOCK) * _BLOCK
    )
    return found


def _likeness(theta: Components) -> tuple[Float[Array, "K E"], Float[Array, " K"]]:
    """Slopes, for |x|^2 and x, and levels of the log joint densities of spheres, but for one constant."""
    loc = theta.parts.loc
    dim = loc.shape[1]
    precision = jnp.exp(2.0 / dim * theta.parts.log_det)[:, None]
    level = theta.log_weights + theta.parts.log_det - 0.5 * jnp.sum(precision * loc**2, axis=-1)
    return jnp.concatenate([-0.5 * precision, precision * loc], axis=-1), level


def _joint(x: Float[Array, "B D"], slopes: Float[Array, "K E"], level: Float[Array, " K"]) -> Array:
    terms = jnp.concatenate([jnp.sum(x**2, axis=-1, keepdims=True), x], axis=-1)
    return einsum("be,ke->bk", terms, slopes) + level[None]


def _likeliest(x: Float[Array, "B D"], slopes: Float[Array, "K E"], level: Float[Array, " K"]) -> Array:
    """The component whose likeness each row is likeliest under, tile by tile."""
    rows, dim = x.shape
    tile = choose_tile(x, slopes.shape[0])
    tiles = jnp.pad(x, ((0, -rows % tile), (0, 0))).reshape(-1, tile, dim)
    best: Array = jax.lax.map(lambda x: largest(_joint(x, slopes, level)), tiles)
    return best.reshape(-1)[:rows]


def _groups(loc: Float[Array, "K D"], num: int) -> Int[Array, " K"]:
    """Which of M groups each component is in, by some steps of Lloyd's algorithm from evenly spaced means."""

    def nearest(means: Float[Array, "M D"]) -> Int[Array, " K"]:
        score = einsum("kd,md->km", loc, means) - 0.5 * jnp.sum(means**2, axis=-1)[None]
        return largest(score)

    def step(_: Any, means: Float[Array, "M D"]) -> Float[Array, "M D"]:
        group = nearest(means)
        count = jnp.zeros((num,), loc.dtype).at[group].add(1.0)[:, None]
        total = jnp.zeros_like(means).at[group].add(loc)
        return jnp.where(count > 0, total / jnp.maximum(count, 1.0), means)

    first = loc[jnp.linspace(0, loc.shape[0] - 1, num).astype(jnp.int32)]
    return nearest(jax.lax.fori_loop(0, _LLOYD_STEPS, step, first))


def _scores(
    loc: Float[Array, "K D"],
    slopes: Float[Array, "K E"],
    level: Float[Array, " K"],
    group: Int[Array, " K"],
    num: int,
) -> Float[Array, "M K"]:
    """How likely components are at the likeliest of a group's means; its own come first."""
    score = jax.ops.segment_max(_joint(loc, slopes, level), group, num)
    own = group[None] == jnp.arange(num, dtype=group.dtype)[:, None]
    return jnp.where(own, jnp.inf, score)


def _in_blocks(batch: Batch, owner: Int[Array, " B"], num: int) -> Batch:
    """Rows in blocks of one group each, with its number as one more column, exact up to 2^24.

    What is left of a block counts nothing; there is room for one such block of every group.
    """
    rows, dim = batch.x.shape
    order = jnp.argsort(owner)
    sorted_owner = owner[order]
    count = jnp.bincount(owner, length=num).astype(jnp.int32)
    blocks = -(-count // _BLOCK)
    room = -(-rows // _BLOCK) + num
    rank = jnp.arange(rows, dtype=jnp.int32) - (jnp.cumsum(count) - count)[sorted_owner]
    place = ((jnp.cumsum(blocks) - blocks) * _BLOCK)[sorted_owner] + rank
    of_block = jnp.searchsorted(jnp.cumsum(blocks), jnp.arange(room, dtype=jnp.int32), side="right")
    number = jnp.repeat(jnp.minimum(of_block, num - 1), _BLOCK).astype(batch.x.dtype)
    x = jnp.zeros((room * _BLOCK, dim), batch.x.dtype).at[place].set(batch.x[order])
    weight = jnp.zeros((room * _BLOCK,), batch.weight.dtype).at[place].set(batch.weight[order])
    return Batch(x=jnp.concatenate([x, number[:, None]], axis=1), weight=weight)


def _subset(theta: Components, chosen: Int[Array, " C"]) -> Components:
    num = theta.log_weights.shape[0]
    # What all components share has no axis of K.
    parts = jax.tree.map(lambda leaf: leaf[chosen] if leaf.shape[0] == num else leaf, theta.parts)
    return dataclasses.replace(
        theta, log_weights=theta.log_weights[chosen], parts=parts, own=theta.own[chosen]
    )


def _scattered(leaf: Float[Array, "G C *rest"], chosen: Int[Array, "G C"], num: int) -> Array:
    """Statistics of blocks added up; those that all components share have an axis of one instead of C."""
    if leaf.shape[1] != chosen.shape[1]:
        return jnp.sum(leaf, axis=0)
    total = jnp.zeros((num, *leaf.shape[2:]), leaf.dtype)
    return total.at[chosen.reshape(-1)].add(leaf.reshape(-1, *leaf.shape[2:]))
