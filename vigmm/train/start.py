"""Where a run starts: k-means on a subsample, a short contest of restarts, then the conjugate path.

A subsample is seeded several times by k-means++ and Lloyd; each partition becomes a conjugate posterior and
takes a few hundred stochastic natural-gradient steps on the subsample; the one with the best ELBO wins. All
that is one compiled program whose cost does not depend on N. Families that are not conjugate then follow
the natural path over the whole data for a pass, so that they start with the right scales (about
1/sqrt(N_k)): this is what lets Adam converge in a handful of passes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vigmm.core import rng
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate, ConjugateParams, Family
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Prior, sticks
from vigmm.optim import RobbinsMonro
from vigmm.train import step as steps
from vigmm.train.interrupt import Interrupt
from vigmm.train.kmeans import kmeans
from vigmm.train.loop import Progress, Train, train

__all__ = ["STARTS", "KMeansStart", "Start"]

# The natural path over small data: enough coordinate steps for the partition to settle.
_PATH_STEPS = 50


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
        interrupt: Interrupt | None = None,
    ) -> ConjugateParams:
        """A conjugate posterior of `model`, a model that has one, its components sorted by size."""
        ...


@spec
class KMeansStart:
    """The best of several k-means starts, judged by the ELBO after a short natural-gradient run.

    Args:
        rows: size of the subsample.
        lloyd: Lloyd iterations.
        restarts: how many partitions compete.
        steps: natural-gradient steps that each of them takes on the subsample.
        batch_size: rows per such step.
        passes: passes of natural-gradient steps over the whole data after the contest, for families that
            are not themselves conjugate.
    """

    rows: int = 20_000
    lloyd: int = 10
    restarts: int = 6
    steps: int = 200
    batch_size: int = 512
    passes: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rows", "restarts", "batch_size"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("lloyd", "steps"):
            require(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))
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
        interrupt: Interrupt | None = None,
    ) -> ConjugateParams:
        """Hold the contest, then follow the natural path unless `family` is itself conjugate."""
        params: ConjugateParams = _contest(self, model, prior, data, rng.stream(key, "contest"))
        if self.passes == 0 or isinstance(family, Conjugate):
            return params
        config = dataclasses.replace(config, passes=self.passes, min_steps=_PATH_STEPS, tolerance=0.0)
        delay = max(1.0, min(self.rows, data.x.shape[0]) / config.batch_size)
        none = Rows(x=data.x[:0], weight=data.weight[:0])
        result = train(
            _natural(model), RobbinsMonro(delay=delay), params, prior, data, none, rng.stream(key, "path"),
            config=config, progress=progress, phase="start", interrupt=interrupt,
        )  # fmt: skip
        last: ConjugateParams = result.params
        return _sort(model, prior, last)


STARTS: dict[str, type[Start]] = {"kmeans": KMeansStart}


def _natural(model: Mixture) -> Objective:
    return Objective(model=model, family=Conjugate(), estimator=Natural())


@functools.partial(jax.jit, static_argnames=("start", "model"))
def _contest(start: KMeansStart, model: Mixture, prior: Prior, data: Rows, key: PRNGKey) -> ConjugateParams:
    """The conjugate posterior with the best ELBO on the subsample, which stands for the whole data."""
    sample = Minibatch(start.rows).pick(data, rng.stream(key, "subsample"), 0)
    rows = Rows(x=sample.x, weight=sample.weight)
    objective = _natural(model)
    sampler, optimizer = Minibatch(start.batch_size), RobbinsMonro()
    horizon = jnp.asarray(start.steps, jnp.int32)

    def contender(key: PRNGKey) -> tuple[Float[Array, ""], ConjugateParams]:
        first = _seed(model, prior, sample, rng.stream(key, "kmeans"), lloyd=start.lloyd)
        state = steps.init(objective, optimizer, first, key)

        def body(state: steps.TrainState, _: None) -> tuple[steps.TrainState, None]:
            return steps.step(objective, optimizer, sampler, state, prior, rows, horizon)[0], None

        state, _ = lax.scan(body, state, None, length=start.steps)
        terms = objective.value(state.params, prior, sample, key)
        return jax.tree.reduce(jnp.add, terms), state.params

    elbos, params = lax.map(contender, jax.random.split(key, start.restarts))
    # A contender that broke must not win: NaN would, in argmax.
    best = jnp.argmax(jnp.where(jnp.isfinite(elbos), elbos, -jnp.inf))
    return _sort(model, prior, jax.tree.map(lambda leaf: leaf[best], params))


def _seed(model: Mixture, prior: Prior, sample: Batch, key: PRNGKey, *, lloyd: int) -> ConjugateParams:
    """Conjugate posterior of a k-means partition, components in order of size."""
    num = model.num_components
    labels, means = kmeans(sample.x, sample.weight, key, num_clusters=num, iterations=lloyd)
    counts = jnp.zeros((num,), sample.weight.dtype).at[labels].add(sample.weight)
    order = jnp.argsort(-counts)
    centre, rank = means[order], jnp.argsort(order)[labels]
    weights = sticks.update(prior.weights, jnp.zeros((num,), sample.weight.dtype))
    empty = ConjugateParams(weights=weights, components=model.algebra.natural(prior.components, centre))
    # The labels ride along as one more column, so that rows and labels are tiled together.
    labelled = jnp.concatenate([sample.x, rank[:, None].astype(sample.x.dtype)], axis=1)

    def stats(piece: Batch) -> Any:
        label = piece.x[:, -1].astype(jnp.int32)
        resp = piece.weight[:, None] * jax.nn.one_hot(label, num, dtype=piece.x.dtype)
        return model.algebra.stats(piece.x[:, :-1], resp, centre)

    rows, dim = sample.x.shape
    tile = choose_tile(rows, num, dim, itemsize=sample.x.dtype.itemsize)
    total = tiled_sum(stats, Batch(x=labelled, weight=sample.weight), tile)
    return Conjugate().target(model, prior, empty, counts[order], total)


def _sort(model: Mixture, prior: Prior, params: ConjugateParams) -> ConjugateParams:
    """The same posterior with its components in order of size, which is what sticks expect."""
    counts = params.components.count - prior.components.mean_precision
    order = jnp.argsort(-counts)
    return ConjugateParams(
        weights=sticks.update(prior.weights, counts[order], params.weights),
        components=model.algebra.order(params.components, order),
    )
