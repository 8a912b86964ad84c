"""What estimators that draw parameters share: reparameterised draws and their log densities."""

from __future__ import annotations

from typing import Any, cast

import jax
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators import noise as noises
from vigmm.estimators.noise import Noise
from vigmm.families import Family, Reparameterised
from vigmm.models import Mixture, Position, Prior, passes

__all__ = ["LogDensities", "log_densities", "push", "reparameterised"]


@state
class LogDensities:
    """For each draw: log likelihood of the weighted rows, log prior and log q."""

    log_lik: Float[Array, " S"]
    log_prior: Float[Array, " S"]
    log_q: Float[Array, " S"]

    @property
    def log_ratio(self) -> Float[Array, " S"]:
        """Log p(X, u) - log q(u)."""
        return self.log_lik + self.log_prior - self.log_q


def reparameterised(family: Family) -> Reparameterised:
    """The same family, known to have draws that can be differentiated.

    Raises:
        SpecError: if it has not.
    """
    if not isinstance(family, Reparameterised):
        must = "one with reparameterised draws, such as 'meanfield': gradients of Beta and Wishart draws"
        raise SpecError(
            "family", must + " are not finite for the small shapes of empty components", type(family).__name__
        )
    return cast(Reparameterised, family)


def push(
    model: Mixture, family: Family, params: Any, key: PRNGKey, *, noise: Noise, num_samples: int
) -> tuple[Position, Float[Array, " S"]]:
    """S draws of positions, with a leading axis, and their log q from the noise."""
    able = reparameterised(family)
    dtype = jax.tree.leaves(params)[0].dtype
    made = noises.draw(noise, key, num_samples, able.noise_size(model, params), dtype)
    return jax.vmap(lambda one: able.push(model, params, one))(made)


def log_densities(
    model: Mixture, u: Position, log_q: Float[Array, " S"], prior: Prior, batch: Batch, tile: int | None
) -> LogDensities:
    """Log densities at S positions; rows are read tile by tile."""
    theta = jax.vmap(lambda u: model.constrain(prior, u))(u)
    log_prior = jax.vmap(lambda u: model.log_prior(prior, u))(u)
    log_lik = passes.log_lik(model, theta, batch, tile=tile)
    return LogDensities(log_lik=log_lik, log_prior=log_prior, log_q=log_q)
