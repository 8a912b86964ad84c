"""Seeds and Lloyd iterations, on the device: greedy k-means++, k-means||, random rows.

Greedy k-means++ takes one seed after the other, each the best of 2 + log K candidates drawn with probability
proportional to the squared distance to the nearest seed. k-means|| draws many candidates at once in a few
rounds, weighs each by the rows that are nearest to it, and takes the seeds from the weighted candidates by
k-means++.

References:
    Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
    Bahmani, Moseley, Vattani, Kumar and Vassilvitskii (2012), Scalable k-means++, PVLDB 5.
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
from vigmm.math.rows import largest

__all__ = ["kmeans", "lloyd", "parallel_seeds", "plus_plus_seeds", "random_seeds", "seeds"]

# Up to so many clusters taking one seed after the other is as fast, and half the program: on two cores, with
# 20,000 rows of 16 columns, both take 0.05 s at K = 200 and 0.29 s at K = 1000, to the same potential.
_MOST_IN_TURN = 1000
# k-means||: rounds, and candidates per round as a multiple of K.
_ROUNDS, _OVERSAMPLING = 5, 0.5


def seeds(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int
) -> Float[Array, "K D"]:
    """Spread-out rows, by k-means++ for few clusters and by k-means|| for many."""
    choose = plus_plus_seeds if num_clusters <= _MOST_IN_TURN else parallel_seeds
    return choose(x, weight, key, num_clusters=num_clusters)


def random_seeds(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int
) -> Float[Array, "K D"]:
    """Rows drawn in proportion to their weights, without replacement as long as there are enough of them."""
    # The K largest of log w + Gumbel noise: a draw without replacement (Efraimidis and Spirakis 2006).
    noisy = jnp.log(weight) + jax.random.gumbel(key, weight.shape, weight.dtype)
    order = jnp.argsort(-noisy)
    have = jnp.maximum(jnp.sum((weight > 0).astype(jnp.int32)), 1)
    return x[order[jnp.arange(num_clusters) % have]]


def plus_plus_seeds(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int
) -> Float[Array, "K D"]:
    """Greedy k-means++.

    Args:
        x: rows.
        weight: their weights; rows of weight 0 are never seeds and count nothing.
        key: chooses the seeds.
        num_clusters: K.
    """
    trials = 2 + int(math.log(num_clusters))
    columns = x.T

    def distance(points: Float[Array, "T D"]) -> Float[Array, "T B"]:
        # Differences, so that a copy of a seed has no mass; columns first, so that rows fill the vectors.
        return jnp.sum((columns[:, None, :] - points.T[:, :, None]) ** 2, axis=0)

    first = x[_draw(rng.at_step(key, 0), weight, weight, 1)]
    means = jnp.zeros((num_clusters, x.shape[1]), x.dtype).at[0].set(first[0])

    def seed(i: Int[Array, ""], carry: tuple[Array, Array]) -> tuple[Array, Array]:
        means, nearest = carry
        candidates = x[_draw(rng.at_step(key, i), weight * nearest, weight, trials)]
        closer = jnp.minimum(nearest[None], distance(candidates))
        best = jnp.argmin(jnp.sum(weight[None] * closer, axis=1))
        return means.at[i].set(candidates[best]), closer[best]

    found: Array = lax.fori_loop(1, num_clusters, seed, (means, distance(first)[0]))[0]
    return found


def parallel_seeds(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int
) -> Float[Array, "K D"]:
    """k-means||: a few rounds of many candidates, then greedy k-means++ among them.

    Each round draws a fixed number of rows with replacement, in proportion to w d^2, in place of the paper's
    independent coin for each row: shapes stay fixed, and a candidate drawn twice has no weight.

    Args:
        x: rows.
        weight: their weights; rows of weight 0 are never seeds and count nothing.
        key: chooses the seeds.
        num_clusters: K.
    """
    rows, dim = x.shape
    count = max(1, math.ceil(_OVERSAMPLING * num_clusters))
    total = count * _ROUNDS
    pool = jnp.zeros((total, dim), x.dtype)
    far = jnp.full((rows,), jnp.inf, x.dtype)

    def body(carry: tuple[Array, Array, Array], i: Int[Array, ""]) -> tuple[tuple[Array, Array, Array], None]:
        pool, nearest, owner = carry
        # In the first round every row is equally far.
        mass = weight * jnp.where(jnp.isfinite(nearest), nearest, 1.0)
        chosen = x[_draw(rng.at_step(key, i), mass, weight, count)]
        which = _nearest(x, chosen)
        # The distance itself from the difference: a row that was chosen is at distance zero.
        distance = jnp.sum((x - chosen[which]) ** 2, axis=-1)
        closer = distance < nearest
        owner = jnp.where(closer, i * count + which, owner)
        pool = lax.dynamic_update_slice_in_dim(pool, chosen, i * count, axis=0)
        return (pool, jnp.minimum(distance, nearest), owner), None

    start = (pool, far, jnp.zeros((rows,), jnp.int32))
    (pool, _, owner), _ = lax.scan(body, start, jnp.arange(_ROUNDS, dtype=jnp.int32))
    # Sums by owner through a sorted running sum: a scatter would add in no fixed order on an accelerator.
    order = jnp.argsort(owner)
    running = jnp.concatenate([jnp.zeros((1,), weight.dtype), jnp.cumsum(weight[order])])
    edges = jnp.searchsorted(owner[order], jnp.arange(total + 1, dtype=jnp.int32), side="left")
    held = jnp.diff(running[edges])
    return plus_plus_seeds(pool, held, rng.stream(key, "among"), num_clusters=num_clusters)


def lloyd(
    x: Float[Array, "B D"], weight: Float[Array, " B"], means: Float[Array, "K D"], *, iterations: int
) -> tuple[Int[Array, " B"], Float[Array, "K D"]]:
    """Lloyd iterations; a cluster that loses all its rows keeps its old mean.

    Returns:
        The nearest mean of each row, and the means.
    """

    def body(_: Int[Array, ""], means: Float[Array, "K D"]) -> Float[Array, "K D"]:
        hot = weight[:, None] * jax.nn.one_hot(_nearest(x, means), means.shape[0], dtype=x.dtype)
        count = jnp.sum(hot, axis=0)[:, None]
        return jnp.where(count > 0, einsum("bk,bd->kd", hot, x) / jnp.maximum(count, 1e-30), means)

    means = lax.fori_loop(0, iterations, body, means)
    return _nearest(x, means), means


def kmeans(
    x: Float[Array, "B D"], weight: Float[Array, " B"], key: PRNGKey, *, num_clusters: int, iterations: int
) -> tuple[Int[Array, " B"], Float[Array, "K D"]]:
    """Seeds, then Lloyd iterations.

    Args:
        x: rows.
        weight: their weights; rows of weight 0 are never seeds and count nothing.
        key: chooses the seeds.
        num_clusters: K.
        iterations: Lloyd iterations.

    Returns:
        The nearest mean of each row, and the means.
    """
    return lloyd(x, weight, seeds(x, weight, key, num_clusters=num_clusters), iterations=iterations)


def _draw(key: PRNGKey, mass: Float[Array, " B"], weight: Float[Array, " B"], count: int) -> Int[Array, " T"]:
    """Numbers of `count` rows drawn in proportion to `mass`, with replacement."""
    # All-zero mass (fewer distinct rows than clusters) falls back to the rows' weights.
    edges = jnp.cumsum(jnp.where(jnp.sum(mass) > 0, mass, weight))
    level = edges[-1] * jax.random.uniform(key, (count,), edges.dtype)
    return jnp.minimum(jnp.searchsorted(edges, level, side="right"), mass.shape[0] - 1)


def _nearest(x: Float[Array, "B D"], means: Float[Array, "K D"]) -> Int[Array, " B"]:
    product = einsum("bd,kd->bk", x, means)
    index = largest(product - 0.5 * jnp.sum(means**2, axis=-1)[None])
    return index
