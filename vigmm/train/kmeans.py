"""Greedy k-means++ seeding and Lloyd iterations, on the device.

References:
    Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.typing import PRNGKey
from vigmm.math.linalg import einsum

__all__ = ["kmeans"]


def kmeans(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int, iterations: int
) -> tuple[Int[Array, " B"], Float[Array, "K D"]]:
    """Greedy k-means++ seeding and Lloyd iterations.

    A seed is the best of 2 + log K candidates drawn with probability proportional to the squared distance to
    the nearest seed. A cluster that loses all its rows keeps its old mean.

    Args:
        x: rows.
        weight: their weights; rows of weight 0 are never seeds and count nothing.
        key: chooses the seeds.
        num_clusters: K.
        iterations: Lloyd iterations.

    Returns:
        The nearest mean of each row, and the means.
    """
    trials = 2 + int(math.log(num_clusters))

    def distance(points: Float[Array, "T D"]) -> Float[Array, "B T"]:
        return jnp.sum((x[:, None, :] - points[None]) ** 2, axis=-1)

    def draw(key: PRNGKey, mass: Float[Array, " B"], count: int) -> Int[Array, " T"]:
        # All-zero mass (fewer distinct rows than clusters) falls back to the rows' weights.
        edges = jnp.cumsum(jnp.where(jnp.sum(mass) > 0, mass, weight))
        level = edges[-1] * jax.random.uniform(key, (count,), x.dtype)
        below = jnp.sum((edges[:, None] <= level[None]).astype(jnp.int32), axis=0)
        return jnp.minimum(below, x.shape[0] - 1)

    first = x[draw(rng.at_step(key, 0), weight, 1)]
    nearest = distance(first)[:, 0]
    means = jnp.zeros((num_clusters, x.shape[1]), x.dtype).at[0].set(first[0])

    def seed(i: Int[Array, ""], carry: tuple[Array, Array]) -> tuple[Array, Array]:
        means, nearest = carry
        candidates = x[draw(rng.at_step(key, i), weight * nearest, trials)]
        closer = jnp.minimum(nearest[:, None], distance(candidates))
        best = jnp.argmin(jnp.sum(weight[:, None] * closer, axis=0))
        return means.at[i].set(candidates[best]), closer[:, best]

    means, _ = lax.fori_loop(1, num_clusters, seed, (means, nearest))

    def assign(means: Float[Array, "K D"]) -> Int[Array, " B"]:
        product = einsum("bd,kd->bk", x, means)
        return jnp.argmin(0.5 * jnp.sum(means**2, axis=-1)[None] - product, axis=-1)

    def lloyd(_: Int[Array, ""], means: Float[Array, "K D"]) -> Float[Array, "K D"]:
        hot = weight[:, None] * jax.nn.one_hot(assign(means), num_clusters, dtype=x.dtype)
        count = jnp.sum(hot, axis=0)[:, None]
        return jnp.where(count > 0, einsum("bk,bd->kd", hot, x) / jnp.maximum(count, 1e-30), means)

    means = lax.fori_loop(0, iterations, lloyd, means)
    return assign(means), means
