"""Starts that look for clusters themselves: the best of several k-means, or random, partitions.

The cost does not depend on N: all happens on a subsample that stands for the whole.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from vigmm.core import rng
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.families import ConjugateParams
from vigmm.models import Mixture, Prior
from vigmm.train.starts.base import Origin, Started
from vigmm.train.starts.contest import Contest, hold
from vigmm.train.starts.seeding import lloyd, random_seeds, seeds
from vigmm.train.starts.statistics import posterior_of_labels

__all__ = ["KMeansStart", "Partition", "RandomStart"]


@spec
class Partition:
    """A contender: rows go to the nearest of K seeds, after some Lloyd iterations.

    Args:
        spread: whether the seeds are spread out (k-means++, or k-means|| for many) or any rows.
        iterations: Lloyd iterations.
    """

    spread: bool
    iterations: int

    def contender(self, model: Mixture, prior: Prior, sample: Batch, key: PRNGKey) -> ConjugateParams:
        """The conjugate posterior of a partition of `sample`."""
        choose = seeds if self.spread else random_seeds
        first = choose(sample.x, sample.weight, rng.stream(key, "seeds"), num_clusters=model.num_components)
        labels, _ = lloyd(sample.x, sample.weight, first, iterations=self.iterations)
        params: ConjugateParams
        params, _ = posterior_of_labels(model, prior, sample, labels, jnp.ones_like(sample.weight))
        return params


@spec
class KMeansStart:
    """The best of several k-means starts: successive halving by the ELBO on a subsample.

    Args:
        rows: size of the subsample.
        lloyd: Lloyd iterations.
        restarts: how many partitions compete.
        steps: natural-gradient steps that the winner takes on the subsample.
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
        require(self.lloyd >= 0, "lloyd", ">= 0", self.lloyd)
        _check(self)

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """The winner of the contest."""
        partition = Partition(spread=True, iterations=self.lloyd)
        return hold(_contest(self), partition, model, prior, data, rng.stream(key, "contest"), origin)


@spec
class RandomStart:
    """The best of several random starts: rows go to the nearest of K random rows, and the same contest.

    Args:
        rows: size of the subsample.
        restarts: how many partitions compete.
        steps: natural-gradient steps that the winner takes on the subsample.
        batch_size: rows per such step.
        passes: passes of natural-gradient steps over the whole data after the contest, for families that
            are not themselves conjugate.
    """

    rows: int = 20_000
    restarts: int = 6
    steps: int = 200
    batch_size: int = 512
    passes: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """The winner of the contest."""
        partition = Partition(spread=False, iterations=0)
        return hold(_contest(self), partition, model, prior, data, rng.stream(key, "contest"), origin)


def _contest(start: KMeansStart | RandomStart) -> Contest:
    return Contest(rows=start.rows, restarts=start.restarts, steps=start.steps, batch_size=start.batch_size)


def _check(start: Any) -> None:
    for name in ("rows", "restarts", "batch_size"):
        require(getattr(start, name) >= 1, name, ">= 1", getattr(start, name))
    require(start.steps >= 0, "steps", ">= 0", start.steps)
    require(0 <= start.passes < math.inf, "passes", ">= 0 and finite", start.passes)
