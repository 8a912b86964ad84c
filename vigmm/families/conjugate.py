"""The conjugate family: Beta sticks x Normal-Wishart, kept as pseudo-counts.

Parameters are additive (prior + expected sufficient statistics), so that a convex combination of
parameters is the stochastic natural-gradient step of Hoffman et al. (2013) and a full step is
coordinate ascent. Because q has the prior's functional form, densities, divergences and draws are
those of the prior with other hyperparameters.

Draws are differentiable: Gamma variates by implicit differentiation of their logarithms (`vigmm.math.gamma`),
at every shape, however sparse the weights; Wishart matrices by Bartlett's decomposition; means given
precisions by their noise. So the bound with the assignments summed out can be raised over this q as well, by
gradients of its draws. Then the natural gradient is the plain one times the inverse Fisher information of q.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference, JMLR 14; Figurnov, Mohamed and
    Mnih (2018), Implicit reparameterization gradients, NeurIPS 31.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vigmm.core.effort import once
from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import factor as factors
from vigmm.families.base import Guess
from vigmm.families.factor import Factor
from vigmm.models import Components, Mixture, Position, Prior, Sticks, sticks
from vigmm.models.covariance import FreeStructure, StructurePosition

__all__ = [
    "Conjugate",
    "ConjugateParams",
    "Posterior",
    "guess",
    "row_counts",
    "row_counts_on_host",
    "untouched",
]


@state
class ConjugateParams:
    """Posterior pseudo-counts: sticks, the components' additive parameters, and a common factor if any."""

    weights: Sticks
    components: Any
    factor: Factor | None = None


@state
class Posterior:
    """Standard hyperparameters of q: sticks, and components in the form of their prior."""

    weights: Sticks
    components: Any
    factor: Factor | None = None


@spec
class Conjugate:
    """q(pi) prod_k q(mu_k, Lambda_k) in the prior's own form, for covariances that have one."""

    default_estimator: ClassVar[str] = "natural"
    default_optimizer: ClassVar[tuple[str, str]] = ("fisher", "fisher")

    def check(self, model: Mixture) -> None:
        """Refuse models without a conjugate posterior, saying why."""
        _ = model.algebra

    def unsound(self, model: Mixture) -> str | None:
        """Degrees of freedom that may be D + 1 or fewer: gradients through a draw have infinite variance.

        The gradient in them has a factor 1/W_11, and E[1/W_11^2] is finite above D + 1 only.
        """
        prior = model.prior
        given = getattr(prior, "ratio", None) is not None and getattr(prior, "dof", None) is not None
        few = "a prior of given ratio and dof: at D + 1 degrees of freedom or fewer gradients of draws have "
        return few + "infinite variance" if given else None

    def independent_blocks(self, model: Mixture) -> bool:
        """Whether q makes weights, components and what is shared independent of each other."""
        return model.structure.shared_size(1) == 0

    def init(self, model: Mixture, guess: Guess) -> ConjugateParams:
        """The guess's own conjugate posterior."""
        params: ConjugateParams = guess.conjugate
        return params

    def posterior(self, model: Mixture, params: ConjugateParams) -> Posterior:
        """Standard hyperparameters. What is carried along and never updated is a constant to gradients."""
        params = _moving(params)
        components = model.algebra.standard(params.components)
        return Posterior(weights=params.weights, components=components, factor=params.factor)

    def target(
        self, model: Mixture, prior: Prior, params: ConjugateParams, counts: Float[Array, " K"], stats: Any
    ) -> ConjugateParams:
        """Prior + statistics: where a full coordinate step goes, about the centre of `params`.

        The covariances of `params` decide q of their common factor, whose mean the target's covariances then
        use: with both from the old values a full step could lower the bound.
        """
        factor = factors.best(model, prior, params.components)
        base = factors.base(model, prior, factor, params.components.centre)
        return ConjugateParams(
            weights=sticks.update(prior.weights, counts, params.weights),
            components=jax.tree.map(jnp.add, base, stats),
            factor=factor,
        )

    def expected(self, model: Mixture, posterior: Posterior) -> Components:
        """E_q[log pi] and the parts of E_q[log N]."""
        log_weights = sticks.expected_log_weights(posterior.weights, model.num_components)
        made = Components(
            log_weights=log_weights,
            parts=model.algebra.expected(posterior.components),
            own=jnp.zeros((model.num_components, 0), log_weights.dtype),
            log_noise=jnp.zeros((0,), log_weights.dtype),
            patterns=jnp.zeros((0, 0), log_weights.dtype),
        )
        return once(made)

    def neg_kl(
        self, model: Mixture, posterior: Posterior, prior: Prior, used: Bool[Array, " K"] | None = None
    ) -> dict[str, Float[Array, ""]]:
        """-KL(q || prior) in nats: the data-free terms of the bound.

        Components that are not `used` are at their prior. Where a common factor s is inferred that is
        p(. | s), so that q is then q(s) prod_used q(.) prod_others p(. | s): the others cost nothing.
        """
        components = posterior.components
        if posterior.factor is not None and used is not None:
            components = jax.tree.map(functools.partial(_where, used), components, prior.components)
        means, covariances = model.algebra.kl_parts(components, prior.components)
        if posterior.factor is not None:
            covariances = covariances + factors.kl(model, prior, posterior.factor, components, used)
        terms = {
            "neg_kl_weights": -sticks.kl(posterior.weights, prior.weights),
            "neg_kl_means": -means,
            "neg_kl_covariances": -covariances,
        }
        return once(terms)

    def sample(
        self, model: Mixture, params: ConjugateParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q, differentiable in the parameters."""
        posterior = self.posterior(model, params)
        key_weights, key_components = jax.random.split(key)
        components = model.algebra.sample(posterior.components, key_components)
        shared = components.shared
        if posterior.factor is not None:
            log_factor = factors.sample(posterior.factor, jax.random.fold_in(key, 2))
            shared = jnp.concatenate([shared, log_factor])
        u = Position(
            weights=sticks.sample(posterior.weights, key_weights),
            components=components.components,
            shared=shared,
        )
        return u, self._log_q(model, posterior, u)

    def _log_q(self, model: Mixture, posterior: Posterior, u: Position) -> Float[Array, ""]:
        own, factor = u.shared.shape[0] - (posterior.factor is not None), posterior.factor
        inner = StructurePosition(components=u.components, shared=u.shared[:own])
        components = model.algebra.log_prob(posterior.components, inner)
        if factor is not None:
            components = components + factors.log_prob(factor, u.shared[-1])
        return sticks.log_prob(posterior.weights, u.weights) + components

    def log_prob(self, model: Mixture, params: ConjugateParams, u: Position) -> Float[Array, ""]:
        """Log q(u): the prior's density with posterior hyperparameters."""
        return self._log_q(model, self.posterior(model, params), u)

    def entropy(self, model: Mixture, params: ConjugateParams) -> Float[Array, ""]:
        """-E_q[log q] over positions."""
        posterior = self.posterior(model, params)
        total = sticks.entropy(posterior.weights) + model.algebra.entropy(posterior.components)
        return total if posterior.factor is None else total + factors.entropy(posterior.factor)

    def natural_gradient(
        self, model: Mixture, params: ConjugateParams, grads: ConjugateParams
    ) -> ConjugateParams:
        """Plain gradients times the inverse Fisher information."""
        factor, slopes = params.factor, grads.factor
        if factor is not None and slopes is not None:
            factor = factors.natural_gradient(factor, slopes)
        return ConjugateParams(
            weights=sticks.natural_gradient(params.weights, grads.weights),
            components=model.algebra.natural_gradient(params.components, grads.components),
            factor=factor,
        )

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


def _where(used: Bool[Array, " K"], found: Array, empty: Array) -> Array:
    """Rows of components in use from the first, others from the second; what is shared from the first."""
    if found.shape[:1] != used.shape:
        return found
    return jnp.where(used.reshape(-1, *[1] * (found.ndim - 1)), found, empty)


def _moving(params: ConjugateParams) -> ConjugateParams:
    """The same parameters, only those that are updated passing gradients on."""
    weights, components = params.weights, params.components
    slopes = jax.lax.stop_gradient((weights.a_slope, weights.b_slope))
    return ConjugateParams(
        weights=dataclasses.replace(weights, a_slope=slopes[0], b_slope=slopes[1]),
        components=dataclasses.replace(components, centre=jax.lax.stop_gradient(components.centre)),
        factor=params.factor,
    )


def row_counts(components: Any, prior: Prior) -> Float[Array, " K"]:
    """Expected rows of each component: additive pseudo-observations less those of the prior."""
    counts: Array = components.count - prior.components.mean_precision
    return counts


def row_counts_on_host(components: Any, prior: Prior) -> Float[np.ndarray, " K"]:
    """`row_counts` for who reads them on the host: nothing is compiled, and no matrices are moved."""
    counts: Float[np.ndarray, " K"] = np.asarray(components.count) - np.asarray(
        prior.components.mean_precision
    )
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
    if params.factor is not None:
        middle, spread = factors.gaussian_fit(params.factor)
        start = dataclasses.replace(start, shared=start.shared.at[-1].set(middle))
        scale = dataclasses.replace(scale, shared=scale.shared.at[-1].set(spread))
    return Guess(loc=start, scale=scale, conjugate=params if model.refusal() is None else None)


def untouched(model: Mixture, prior: Prior) -> ConjugateParams:
    """The conjugate posterior of no rows at all, about a centre of zero; it has the shapes of any other."""
    dim = prior.frame.scale.shape[0]
    dtype = prior.frame.scale.dtype
    counts = jnp.zeros((model.num_components,), dtype)
    centre = jnp.zeros((model.num_components, dim), dtype)
    components = model.algebra.natural(prior.components, centre)
    return ConjugateParams(
        weights=sticks.update(prior.weights, counts),
        components=components,
        factor=factors.best(model, prior, components),
    )
