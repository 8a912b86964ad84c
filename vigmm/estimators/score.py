"""The score-function estimator with a leave-one-out baseline: slow, general, and a check on all others.

    d ELBO = E_q[ (f(u) - c) d log q(u; params) ],   f = log p(X, u) - log q(u)                       (1)

for every c that does not depend on u; draw s takes the mean of f over the other draws for c. It never
differentiates the model or the draws, so it shares no mistake with the pathwise gradient.

References:
    Ranganath, Gerrish and Blei (2014), AISTATS; Kool, van Hoof and Welling (2019) for the baseline.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators import noise as noises
from vigmm.estimators.base import Estimate
from vigmm.estimators.sampling import LogDensities, log_densities
from vigmm.families import Family
from vigmm.models import Mixture, Position, Prior

__all__ = ["Score"]

Terms = dict[str, Float[Array, ""]]


@spec
class Score:
    """Score-function gradients with a leave-one-out baseline.

    Args:
        num_samples: S, draws per step, at least 2.
        tile: rows processed at a time; ``None`` chooses from the cache size.
    """

    num_samples: int = 16
    tile: int | None = None

    default_optimizer: ClassVar[tuple[str, str]] = ("adam", "adam")
    full_batch: ClassVar[bool] = False
    natural: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.num_samples >= 2, "num_samples", ">= 2, for a baseline", self.num_samples)
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse `conjugate`, whose parameters are pseudo-counts that a plain gradient step leaves."""
        conjugate = type(family).__name__ == "Conjugate"
        must = "one whose parameters are free, such as 'meanfield'; 'natural' is for pseudo-counts"
        require(not conjugate, "family", must, "conjugate")

    def final(self) -> Score:
        """Itself."""
        return self

    def _draws(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> tuple[Position, LogDensities]:
        keys = jax.random.split(key, self.num_samples)
        u, log_q = jax.vmap(lambda one: family.sample(model, params, one))(keys)
        return u, log_densities(model, u, log_q, prior, batch, self.tile)

    def value(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Terms:
        """Means over the draws."""
        return _terms(self._draws(model, family, params, prior, batch, key)[1])

    def estimate(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Estimate:
        """The bound and minus equation (1)."""
        u, found = jax.lax.stop_gradient(self._draws(model, family, params, prior, batch, key))
        f = found.log_ratio
        # f_s minus the mean of the others is S/(S - 1) times f_s minus the mean of all.
        centred = (f - jnp.mean(f)) * (self.num_samples / (self.num_samples - 1))

        def loss(params: Any) -> Float[Array, ""]:
            log_q = jax.vmap(lambda one: family.log_prob(model, params, one))(u)
            return -jnp.mean(centred * log_q)

        terms = _terms(found)
        elbo = jax.tree.reduce(jnp.add, terms)
        return Estimate(
            elbo=elbo, grads=jax.grad(loss)(params), terms=terms, se=noises.standard_error("iid", f)
        )


def _terms(found: LogDensities) -> Terms:
    return {
        "log_lik": jnp.mean(found.log_lik),
        "log_prior": jnp.mean(found.log_prior),
        "entropy": -jnp.mean(found.log_q),
    }
