"""q of a common factor of all covariances, where a Normal-Wishart prior infers one.

With s ~ Gamma(a, b) and log p(covariances | s) = n log s - s T + const the pair is conjugate given the other:
q(s) = Gamma(a + n, b + E[T]), and given q(s) the covariances see the prior of the factor E[s].
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.math import gamma
from vigmm.math.special import digamma, gammaln, log_gamma_gap
from vigmm.models import Gamma, Mixture, Prior

__all__ = [
    "Factor",
    "base",
    "best",
    "cost",
    "entropy",
    "gaussian_fit",
    "given",
    "kl",
    "log_prob",
    "natural_gradient",
    "sample",
    "sound",
    "unseen",
]


@state
class Factor:
    """Gamma parameters of q(s)."""

    shape: Float[Array, ""]
    rate: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        """E[s]."""
        return self.shape / self.rate


def best(model: Mixture, prior: Prior, natural: Any, used: Bool[Array, " K"] | None = None) -> Factor | None:
    """q(s) at its optimum, given the components' additive parameters; None where s is known.

    Components that are not `used` follow their prior given s, which says nothing about s.
    """
    prior_of: Gamma | None = model.inferred_factor
    if prior_of is None:
        return None
    count, total = _terms(model, prior, model.algebra.standard(natural), used)
    shape = prior_of.shape + count
    # Among the Gammas of at least this mean the closest is the same one, tilted.
    return Factor(shape=shape, rate=jnp.minimum(prior_of.rate + total, shape / model.least_factor))


def given(model: Mixture, prior: Prior, factor: Factor | None) -> Any:
    """The prior that the components see: that of the factor E[s]."""
    return prior.components if factor is None else model.structure.scaled(prior.components, factor.mean)


def base(model: Mixture, prior: Prior, factor: Factor | None, centre: Float[Array, "K D"]) -> Any:
    """Additive parameters of components without rows, about `centre`: what statistics are added to."""
    return model.algebra.natural(given(model, prior, factor), centre)


def unseen(model: Mixture, dtype: Any) -> Factor | None:
    """The prior of s; None where s is known."""
    known: Gamma | None = model.inferred_factor
    if known is None:
        return None
    shape, rate = (jnp.asarray(np.asarray(value, dtype)) for value in (known.shape, known.rate))
    return Factor(shape=shape, rate=rate)


def sound(model: Mixture, factor: Factor | None) -> Factor | None:
    """The same, or its prior where that is not finite."""
    if factor is None:
        return None
    known = unseen(model, factor.shape.dtype)
    fine = jnp.isfinite(factor.shape) & jnp.isfinite(factor.rate)
    sounder: Factor = jax.tree.map(lambda a, b: jnp.where(fine, a, b), factor, known)
    return sounder


def kl(
    model: Mixture, prior: Prior, factor: Factor, components: Any, used: Bool[Array, " K"] | None = None
) -> Float[Array, ""]:
    """What the factor adds to KL(q || prior at s = 1): E[log p(. | 1) - log p(. | s)], and KL of the Gammas.

    KL(Gamma(s, r) || Gamma(a, b)) = g(s) - a digamma(s) + log Gamma(a) + a log(r/b) + b s/r, with g =
    `log_gamma_gap`.
    """
    known: Gamma | None = model.inferred_factor
    assert known is not None
    count, total = _terms(model, prior, components, used)
    psi, log_rate = digamma(factor.shape), jnp.log(factor.rate)
    divergence = log_gamma_gap(factor.shape, psi) - known.shape * psi + math.lgamma(known.shape)
    divergence = divergence + known.shape * (log_rate - math.log(known.rate)) + known.rate * factor.mean
    return divergence - count * (psi - log_rate) + (factor.mean - 1.0) * total


def cost(model: Mixture, prior: Prior, factor: Factor | None) -> Float[Array, ""] | float:
    """Nats that a component costs because s is not known: n (log E[s] - E[log s]), by Jensen >= 0.

    Nothing where components share what varies: one more brings no n.
    """
    if factor is None or model.structure.shared_size(prior.frame.scale.shape[0]):
        return 0.0
    count = model.algebra.scale_terms(prior.components, prior.components)[0][0]
    return count * (jnp.log(factor.mean) - digamma(factor.shape) + jnp.log(factor.rate))


def _terms(
    model: Mixture, prior: Prior, components: Any, used: Bool[Array, " K"] | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(n, T) of `scale_terms` over all components, or over those in use."""
    count, total = model.algebra.scale_terms(components, prior.components)
    if used is not None and count.shape == used.shape:
        count, total = jnp.where(used, count, 0.0), jnp.where(used, total, 0.0)
    return jnp.sum(count), jnp.sum(total)


def sample(factor: Factor, key: PRNGKey) -> Float[Array, " 1"]:
    """One draw of log s, differentiable."""
    return gamma.log_gamma(key, factor.shape[None]) - jnp.log(factor.rate)


def log_prob(factor: Factor, log_value: Float[Array, ""]) -> Float[Array, ""]:
    """Log density of log s."""
    kernel = factor.shape * (jnp.log(factor.rate) + log_value) - factor.rate * jnp.exp(log_value)
    return kernel - gammaln(factor.shape)


def entropy(factor: Factor) -> Float[Array, ""]:
    """Entropy of log s."""
    return -log_gamma_gap(factor.shape)


def gaussian_fit(factor: Factor) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and sd of the Gaussian over log s that is closest, as for a concentration in `sticks`."""
    return jnp.log(factor.mean) - 0.5 / factor.shape, 1.0 / jnp.sqrt(factor.shape)


def natural_gradient(factor: Factor, grads: Factor) -> Factor:
    """The inverse Fisher information times a gradient."""
    shape, rate = gamma.natural_gradient(factor.shape, factor.rate, grads.shape, grads.rate)
    return Factor(shape=shape, rate=rate)
