"""The conjugate family: Beta sticks x Normal-Wishart, kept as pseudo-counts.

Parameters are additive (prior + expected sufficient statistics), so that a convex combination of
parameters is the stochastic natural-gradient step of Hoffman et al. (2013) and a full step is
coordinate ascent. Because q has the prior's functional form, densities, divergences and draws are
those of the prior with other hyperparameters.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference, JMLR 14.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.models import Components, Mixture, Position, Prior, Sticks
from vigmm.models import weights as sticks

__all__ = ["Conjugate", "ConjugateParams"]


@state
class ConjugateParams:
    """Posterior pseudo-counts: sticks and the components' additive parameters."""

    weights: Sticks
    components: Any


@spec
class Conjugate:
    """q(pi) prod_k q(mu_k, Lambda_k) in the prior's own form, for covariances that have one."""

    default_estimator: ClassVar[str] = "natural"

    def init(self, model: Mixture, start: ConjugateParams) -> ConjugateParams:
        """The start itself."""
        return start

    def posterior(self, model: Mixture, params: ConjugateParams) -> Prior:
        """Standard hyperparameters: the same State as the prior."""
        return Prior(weights=params.weights, components=model.algebra.standard(params.components))

    def target(
        self, model: Mixture, prior: Prior, params: ConjugateParams, counts: Float[Array, " K"], stats: Any
    ) -> ConjugateParams:
        """Prior + statistics: where a full coordinate step goes, about the centre of `params`."""
        base = model.algebra.natural(prior.components, params.components.centre)
        return ConjugateParams(
            weights=sticks.update(prior.weights, counts),
            components=jax.tree.map(jnp.add, base, stats),
        )

    def expected(self, model: Mixture, posterior: Prior) -> Components:
        """E_q[log pi] and the parts of E_q[log N]."""
        return Components(
            log_weights=sticks.expected_log_weights(posterior.weights),
            parts=model.algebra.expected(posterior.components),
        )

    def neg_kl(self, model: Mixture, posterior: Prior, prior: Prior) -> dict[str, Float[Array, ""]]:
        """-KL(q || prior) in nats: the data-free terms of the bound."""
        return {
            "neg_kl_weights": -sticks.kl(posterior.weights, prior.weights),
            "neg_kl_components": -jnp.sum(model.algebra.kl(posterior.components, prior.components)),
        }

    def sample(
        self, model: Mixture, params: ConjugateParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q. Draws of Beta and Wishart shapes are for looking, not for gradients."""
        posterior = self.posterior(model, params)
        key_weights, key_components = jax.random.split(key)
        u = Position(
            weights=sticks.sample(posterior.weights, key_weights),
            components=model.algebra.sample(posterior.components, key_components),
        )
        return u, model.log_prior(posterior, u)

    def log_prob(self, model: Mixture, params: ConjugateParams, u: Position) -> Float[Array, ""]:
        """Log q(u): the prior's density with posterior hyperparameters."""
        return model.log_prior(self.posterior(model, params), u)

    def entropy(self, model: Mixture, params: ConjugateParams) -> Float[Array, ""]:
        """-E_q[log q] over positions."""
        posterior = self.posterior(model, params)
        components = jnp.sum(model.algebra.entropy(posterior.components))
        return sticks.entropy(posterior.weights) + components

    def weights(self, model: Mixture, params: ConjugateParams) -> Float[Array, " K"]:
        """E[pi]."""
        return sticks.expected_weights(params.weights)

    def log_predictive(
        self,
        model: Mixture,
        params: ConjugateParams,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B K"]:
        """Log E[pi_k] + log Student-t_k(x): exact under q, so `key` and `num_draws` are not used."""
        posterior = self.posterior(model, params)
        log_weights = jnp.log(sticks.expected_weights(posterior.weights))
        densities: Array = model.algebra.log_predictive(posterior.components, x)
        return log_weights[None] + densities
