"""Where a run starts: k-means on a subsample, then the conjugate path for a while.

Steps: k-means++ seeding (greedy, Arthur and Vassilvitskii 2007) and a few Lloyd iterations on a random
subsample, on the device; hard assignments turned into sufficient statistics, scaled to the whole data; then
stochastic natural-gradient steps. The result is a conjugate posterior, from which any family starts with
the right scales (about 1/sqrt(N_k)): this is what lets Adam converge in a handful of passes.

References:
    Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.struct import require, spec
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate, ConjugateParams, Family
from vigmm.math.linalg import einsum
from vigmm.models import Mixture, Prior
from vigmm.models import weights as sticks
from vigmm.optim import RobbinsMonro
from vigmm.train.loop import Progress, Train, train

__all__ = ["STARTS", "KMeansStart", "Start", "kmeans"]


# A start on small data: enough coordinate steps for the partition to settle.
_START_STEPS = 50


class Start(Protocol):
    """A way to make the first conjugate posterior."""

    def first(
        self,
        model: Mixture,
        family: Family,
        prior: Prior,
        data: Rows,
        key: PRNGKey,
        *,
        config: Train,
        progress: Progress | None,
    ) -> ConjugateParams:
        """A conjugate posterior for `family` to start from, its components sorted by size."""
        ...


@spec
class KMeansStart:
    """k-means++ and Lloyd on a subsample, then natural-gradient steps on minibatches.

    Args:
        rows: size of the subsample; the cost of the seeding does not depend on N.
        lloyd: Lloyd iterations.
        passes: passes of stochastic natural-gradient steps after the seeding, for families that are not
            themselves conjugate.
    """

    rows: int = 20_000
    lloyd: int = 10
    passes: float = 1.0

    def __post_init__(self) -> None:
        require(self.rows >= 1, "rows", ">= 1", self.rows)
        require(self.lloyd >= 0, "lloyd", ">= 0", self.lloyd)
        require(0 <= self.passes < math.inf, "passes", ">= 0 and finite", self.passes)

    def first(
        self,
        model: Mixture,
        family: Family,
        prior: Prior,
        data: Rows,
        key: PRNGKey,
        *,
        config: Train,
        progress: Progress | None,
    ) -> ConjugateParams:
        """Seed, then take the natural path, unless `family` is itself conjugate and goes on from the seeding.

        Needs a covariance with a conjugate prior.
        """
        params: ConjugateParams = _seed(
            model, prior, data, rng.stream(key, "kmeans"), rows=self.rows, lloyd=self.lloyd
        )
        if self.passes == 0 or isinstance(family, Conjugate):
            return params
        config = dataclasses.replace(config, passes=self.passes, min_steps=_START_STEPS, tolerance=0.0)
        objective = Objective(model=model, family=Conjugate(), estimator=Natural())
        delay = max(1.0, min(self.rows, data.x.shape[0]) / config.batch_size)
        none = Rows(x=data.x[:0], weight=data.weight[:0])
        result = train(
            objective, RobbinsMonro(delay=delay), params, prior, data, none, rng.stream(key, "start"),
            config=config, progress=progress, phase="start",
        )  # fmt: skip
        last: ConjugateParams = result.state.params
        return _sorted(model, prior, last)


STARTS: dict[str, type[Start]] = {"kmeans": KMeansStart}


@functools.partial(jax.jit, static_argnames=("model", "rows", "lloyd"))
def _seed(
    model: Mixture, prior: Prior, data: Rows, key: PRNGKey, *, rows: int, lloyd: int
) -> ConjugateParams:
    """Conjugate posterior of a k-means partition of a subsample, scaled to the whole data."""
    key_pick, key_seed = jax.random.split(key)
    sample = Minibatch(rows).pick(data, key_pick, 0)
    labels, means = kmeans(
        sample.x, sample.weight, key_seed, num_clusters=model.num_components, iterations=lloyd
    )
    resp = sample.weight[:, None] * jax.nn.one_hot(labels, model.num_components, dtype=sample.x.dtype)
    counts = jnp.sum(resp, axis=0)
    order = jnp.argsort(-counts)
    centre, resp, counts = means[order], resp[:, order], counts[order]
    empty = ConjugateParams(weights=prior.weights, components=model.algebra.natural(prior.components, centre))
    stats = model.algebra.stats(sample.x, resp, centre)
    return Conjugate().target(model, prior, empty, counts, stats)


def _sorted(model: Mixture, prior: Prior, params: ConjugateParams) -> ConjugateParams:
    """The same posterior with its components in order of size, which is what sticks expect."""
    counts = params.components.count - prior.components.mean_precision
    order = jnp.argsort(-counts)
    components: Any = jax.tree.map(lambda leaf: leaf[order], params.components)
    base = model.algebra.natural(prior.components, components.centre)
    return ConjugateParams(
        weights=sticks.update(prior.weights, components.count - base.count), components=components
    )


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
