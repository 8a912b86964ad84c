"""The conjugate family: Beta sticks x Normal-Wishart, kept as pseudo-counts.

Parameters are additive (prior + expected sufficient statistics), so that a convex combination of
parameters is the stochastic natural-gradient step of Hoffman et al. (2013) and a full step is
coordinate ascent. Because q has the prior's functional form, densities, divergences and draws are
those of the prior with other hyperparameters.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference, JMLR 14.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families.base import Guess
from vigmm.models import Components, Mixture, Position, Prior, Sticks, sticks
from vigmm.models.covariance import FreeStructure, StructurePosition

__all__ = ["Conjugate", "ConjugateParams", "Posterior", "guess", "row_counts", "untouched"]


@state
class ConjugateParams:
    """Posterior pseudo-counts: sticks and the components' additive parameters."""

    weights: Sticks
    components: Any


@state
class Posterior:
    """Standard hyperparameters of q: sticks, and components in the form of their prior."""

    weights: Sticks
    components: Any


@spec
class Conjugate:
    """q(pi) prod_k q(mu_k, Lambda_k) in the prior's own form, for covariances that have one."""

    default_estimator: ClassVar[str] = "natural"

    def check(self, model: Mixture) -> None:
        """Refuse models without a conjugate posterior, saying why."""
        _ = model.algebra

    def independent_blocks(self, model: Mixture) -> bool:
        """Whether q makes weights, components and what is shared independent of each other."""
        return model.structure.shared_size(1) == 0

    def init(self, model: Mixture, guess: Guess) -> ConjugateParams:
        """The guess's own conjugate posterior."""
        params: ConjugateParams = guess.conjugate
        return params

    def posterior(self, model: Mixture, params: ConjugateParams) -> Posterior:
        """Standard hyperparameters."""
        return Posterior(weights=params.weights, components=model.algebra.standard(params.components))

    def target(
        self, model: Mixture, prior: Prior, params: ConjugateParams, counts: Float[Array, " K"], stats: Any
    ) -> ConjugateParams:
        """Prior + statistics: where a full coordinate step goes, about the centre of `params`."""
        base = model.algebra.natural(prior.components, params.components.centre)
        return ConjugateParams(
            weights=sticks.update(prior.weights, counts, params.weights),
            components=jax.tree.map(jnp.add, base, stats),
        )

    def expected(self, model: Mixture, posterior: Posterior) -> Components:
        """E_q[log pi] and the parts of E_q[log N]."""
        log_weights = sticks.expected_log_weights(posterior.weights, model.num_components)
        return Components(
            log_weights=log_weights,
            parts=model.algebra.expected(posterior.components),
            own=jnp.zeros((model.num_components, 0), log_weights.dtype),
            log_noise=jnp.zeros((0,), log_weights.dtype),
            patterns=jnp.zeros((0, 0), log_weights.dtype),
        )

    def neg_kl(self, model: Mixture, posterior: Posterior, prior: Prior) -> dict[str, Float[Array, ""]]:
        """-KL(q || prior) in nats: the data-free terms of the bound."""
        means, covariances = model.algebra.kl_parts(posterior.components, prior.components)
        return {
            "neg_kl_weights": -sticks.kl(posterior.weights, prior.weights),
            "neg_kl_means": -means,
            "neg_kl_covariances": -covariances,
        }

    def sample(
        self, model: Mixture, params: ConjugateParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q. Draws of Beta and Wishart shapes are for looking, not for gradients."""
        posterior = self.posterior(model, params)
        key_weights, key_components = jax.random.split(key)
        components = model.algebra.sample(posterior.components, key_components)
        u = Position(
            weights=sticks.sample(posterior.weights, key_weights),
            components=components.components,
            shared=components.shared,
        )
        return u, self._log_q(model, posterior, u)

    def _log_q(self, model: Mixture, posterior: Posterior, u: Position) -> Float[Array, ""]:
        inner = StructurePosition(components=u.components, shared=u.shared)
        components = model.algebra.log_prob(posterior.components, inner)
        return sticks.log_prob(posterior.weights, u.weights) + components

    def log_prob(self, model: Mixture, params: ConjugateParams, u: Position) -> Float[Array, ""]:
        """Log q(u): the prior's density with posterior hyperparameters."""
        return self._log_q(model, self.posterior(model, params), u)

    def entropy(self, model: Mixture, params: ConjugateParams) -> Float[Array, ""]:
        """-E_q[log q] over positions."""
        posterior = self.posterior(model, params)
        return sticks.entropy(posterior.weights) + model.algebra.entropy(posterior.components)

    def weights(self, model: Mixture, params: ConjugateParams) -> Float[Array, " K"]:
        """E[pi]."""
        return sticks.expected_weights(params.weights, model.num_components)

    def log_predictive(
        self,
        model: Mixture,
        params: ConjugateParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B K"]:
        """Log E[pi_k] + log Student-t_k(x): exact under q, so `key` and `num_draws` are not used."""
        posterior = self.posterior(model, params)
        log_weights = jnp.log(sticks.expected_weights(posterior.weights, model.num_components))
        densities: Array = model.algebra.log_predictive(posterior.components, x)
        return log_weights[None] + densities


def row_counts(components: Any, prior: Prior) -> Float[Array, " K"]:
    """Expected rows of each component: additive pseudo-observations less those of the prior."""
    counts: Array = components.count - prior.components.mean_precision
    return counts


def guess(model: Mixture, prior: Prior, params: ConjugateParams, surrogate_prior: Prior) -> Guess:
    """Where any family of `model` may start, given a conjugate posterior of its surrogate.

    Args:
        model: the model that is fitted.
        prior: its hyperparameters.
        params: a posterior of ``model.surrogate``, which is the model itself where that is conjugate.
        surrogate_prior: hyperparameters of the surrogate.
    """
    surrogate, structure = model.surrogate, model.structure
    algebra = surrogate.algebra
    counts = row_counts(params.components, surrogate_prior)
    components = algebra.standard(params.components)
    weights = params.weights
    loc, sd = algebra.gaussian_fit(components)
    order = model.prior.rank(loc)
    if order is not None:
        counts, natural = counts[order], algebra.order(params.components, order)
        components = algebra.standard(natural)
        weights = sticks.update(surrogate_prior.weights, counts)
        loc, sd = algebra.gaussian_fit(components)
    if not hasattr(structure, "natural"):
        dim = prior.frame.scale.shape[0]
        free = cast(FreeStructure, structure)
        means, covs = algebra.moments(loc, dim)
        loc, sd = free.near(means, covs, jnp.maximum(counts, 0.0) + 1.0)
    fit = sticks.gaussian_fit(weights)
    extra = model.weights.num_hyper() - surrogate.weights.num_hyper()
    if extra:
        # An inferred concentration that the surrogate does not have starts at its prior mean.
        mean = jnp.log(sticks.expected_concentration(prior.weights))
        fit = jnp.concatenate([fit[0], mean]), jnp.concatenate([fit[1], jnp.full_like(mean, 0.5)])
    start, scale = model.near(fit, loc, sd)
    return Guess(loc=start, scale=scale, conjugate=params if model.refusal() is None else None)


def untouched(model: Mixture, prior: Prior) -> ConjugateParams:
    """The conjugate posterior of no rows at all, about a centre of zero; it has the shapes of any other."""
    dim = prior.frame.scale.shape[0]
    dtype = prior.frame.scale.dtype
    counts = jnp.zeros((model.num_components,), dtype)
    centre = jnp.zeros((model.num_components, dim), dtype)
    return ConjugateParams(
        weights=sticks.update(prior.weights, counts),
        components=model.algebra.natural(prior.components, centre),
    )
