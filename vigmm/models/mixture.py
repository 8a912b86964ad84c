"""The Gaussian mixture model, its assignments summed out.

    pi ~ weights,   (mu_k, Lambda_k) ~ prior,   p(x | pi, mu, Lambda) = sum_k pi_k N(x | mu_k, Lambda_k^-1)

The *position* is the unconstrained parameter with exactly the model's degrees of freedom, in two
leaves: the sticks and the components. Densities of a position include the Jacobian, so that the
prior integrates to one over positions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import part, require, spec, state
from vigmm.models import weights as sticks
from vigmm.models.covariance import COVARIANCES, ConjugateCovariance, Covariance, conjugate
from vigmm.models.priors import PRIORS, ComponentPrior, DataScale
from vigmm.models.weights import WEIGHTS, Sticks, WeightPrior

__all__ = ["Components", "Mixture", "Position", "Prior"]


@state
class Position:
    """Unconstrained parameters: logit sticks (J = K - 1) and one row per component."""

    weights: Float[Array, "*S J"]
    components: Float[Array, "*S K P"]


@state
class Prior:
    """Hyperparameters in the standardised space; an argument, not a part, of the model."""

    weights: Sticks
    components: Any


@state
class Components:
    """What the likelihood reads: log weights (or their expectations) and the components' parts."""

    log_weights: Float[Array, " K"]
    parts: Any


@spec
class Mixture:
    """A Bayesian Gaussian mixture.

    Args:
        num_components: K, an upper bound when the weight prior is sparse.
        weights: prior of the mixture weights; a row of `WEIGHTS`.
        covariance: covariance structure; a row of `COVARIANCES`.
        prior: prior of the components; a row of `PRIORS`.

    Example:
        >>> Mixture(num_components=3).position_size(dim=2)
        17
    """

    num_components: int = 20
    weights: WeightPrior = part(WEIGHTS, "dirichlet_process")
    covariance: Covariance = part(COVARIANCES, "full")
    prior: ComponentPrior = part(PRIORS, "normal_wishart")

    def __post_init__(self) -> None:
        require(self.num_components >= 1, "num_components", ">= 1", self.num_components)

    @property
    def algebra(self) -> ConjugateCovariance:
        """The covariance structure's conjugate algebra; `SpecError` if it has none."""
        return conjugate(self.covariance)

    def build_prior(self, data: DataScale, *, dtype: Any) -> Prior:
        """Hyperparameters for this data: the part of the model that follows its scale."""
        return Prior(
            weights=self.weights.prior(self.num_components, dtype),
            components=self.prior.build(data, num_components=self.num_components, dtype=dtype),
        )

    def position_size(self, dim: int) -> int:
        """P, the number of unconstrained coordinates."""
        return self.num_components - 1 + self.num_components * self.covariance.position_size(dim)

    def constrain(self, u: Position, dim: int) -> Components:
        """Log weights and component parts at a position."""
        return Components(
            log_weights=sticks.log_weights(u.weights), parts=self.covariance.constrain(u.components, dim)
        )

    def log_joint(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log pi_k + log N(x_b | component k)."""
        return theta.log_weights[None] + self.covariance.log_normal(theta.parts, x)

    def log_lik(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, " B"]:
        """Log p(x_b | theta), the assignments summed out."""
        return jax.nn.logsumexp(self.log_joint(theta, x), axis=-1)

    def log_prior(self, prior: Prior, u: Position) -> Float[Array, ""]:
        """Log density of a position under hyperparameters, Jacobian included."""
        components = jnp.sum(self.covariance.log_prob(prior.components, u.components))
        return sticks.log_prob(prior.weights, u.weights) + components
