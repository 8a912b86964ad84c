"""What estimators that draw parameters share: reparameterised draws and their log densities."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators import noise as noises
from vigmm.estimators.noise import Noise
from vigmm.families import Family, Implicit, Reparameterised
from vigmm.models import Mixture, Position, Prior, passes
from vigmm.models.passes import Kernel

__all__ = ["LogDensities", "differentiable", "log_densities", "push"]


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


def differentiable(model: Mixture, family: Family, noise: Noise) -> None:
    """Refuse what has no gradients of its draws that are worth following.

    Raises:
        SpecError: for a family whose draws are not differentiable, or not soundly so for this model; for
            noise that is not independent where draws are not made of it.
    """
    if isinstance(family, Reparameterised):
        return
    name = type(family).__name__
    if not isinstance(family, Implicit):
        raise SpecError("family", "one whose draws can be differentiated, such as 'meanfield'", name)
    why = family.unsound(model)
    if why is not None:
        must = "one such as 'meanfield', or 'natural' for the estimator"
        raise SpecError("family", must, f"{name} with {why}")
    require(noise == "iid", "noise", f"'iid' for {name}, whose draws are not made of normal noise", noise)


def push(
    model: Mixture, family: Family, params: Any, key: PRNGKey, *, noise: Noise, num_samples: int
) -> tuple[Position, Float[Array, " S"]]:
    """S draws of positions, with a leading axis, and their log q, not from inverting them."""
    if not isinstance(family, Reparameterised):
        return jax.vmap(lambda one: family.sample(model, params, one))(jax.random.split(key, num_samples))
    dtype = jax.tree.leaves(params)[0].dtype
    made = noises.draw(noise, key, num_samples, family.noise_size(model, params), dtype)
    return jax.vmap(lambda one: family.push(model, params, one))(made)


def log_densities(
    model: Mixture,
    u: Position,
    log_q: Float[Array, " S"],
    prior: Prior,
    batch: Batch,
    tile: int | None,
    *,
    kernel: Kernel = "xla",
) -> LogDensities:
    """Log densities at S positions; rows are read tile by tile."""
    theta = jax.vmap(lambda u: model.constrain(prior, u))(u)
    log_prior = jax.vmap(lambda u: model.log_prior(prior, u))(u)
    log_lik = passes.log_lik(model, theta, batch, tile=tile, kernel=kernel)
    return LogDensities(log_lik=log_lik, log_prior=log_prior, log_q=log_q)
