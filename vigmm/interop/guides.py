"""q as a NumPyro distribution over positions, and as a guide of the exported model.

The guide draws a position u ~ q and sets every site of the model to its value s(u). Its log density is that
of the sites, log q(u) - log|ds/du|. The volume needs no derivative: the prior is the same distribution in
both coordinates, so that

    log|ds/du| = log p(u) - log p(s(u)).                                                    (1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer.util import log_density

from vigmm.core.errors import SpecError
from vigmm.core.typing import PRNGKey
from vigmm.families.base import Reparameterised
from vigmm.interop.export import sites, to_numpyro
from vigmm.models import Position
from vigmm.posterior import Posterior
from vigmm.subject import posterior_of

__all__ = ["PositionDistribution", "as_distribution", "to_numpyro_guide"]


class PositionDistribution(dist.Distribution):  # type: ignore[misc]
    """q over the flat vector of unconstrained coordinates: weights, components, shared."""

    support = constraints.real_vector

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior
        dim = posterior.dim
        weights, own, shared = posterior.model.sizes(dim)
        dtype = posterior.prior.frame.scale.dtype
        like = Position(
            weights=jnp.zeros((weights,), dtype),
            components=jnp.zeros((posterior.num_components, own), dtype),
            shared=jnp.zeros((shared,), dtype),
        )
        flat, self.unravel = ravel_pytree(like)
        super().__init__(batch_shape=(), event_shape=flat.shape)

    def sample(self, key: PRNGKey, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*S M"]:
        """Draws of the position."""
        q = self.posterior

        def one(key: PRNGKey) -> Array:
            return ravel_pytree(q.family.sample(q.model, q.params, key)[0])[0]

        keys = jax.random.split(key, sample_shape)
        for _ in sample_shape:
            one = jax.vmap(one)
        return one(keys if sample_shape else key)

    def log_prob(self, value: Float[Array, "*S M"], intermediates: Any = None) -> Float[Array, "*S"]:
        """Log q."""
        q = self.posterior

        def one(flat: Array) -> Array:
            return q.family.log_prob(q.model, q.params, self.unravel(flat))

        for _ in value.shape[:-1]:
            one = jax.vmap(one)
        return one(value)


def as_distribution(fitted: Any) -> PositionDistribution:
    """The q of a fit or a posterior as a NumPyro distribution over its flat position."""
    return PositionDistribution(posterior_of(fitted, "fitted"))


def to_numpyro_guide(fitted: Any, *, trainable: bool = False) -> Callable[..., dict[str, Array]]:
    """A NumPyro guide with the latent sites of `vigmm.to_numpyro(fitted)`.

    It takes the model's arguments and ignores them. For `Predictive`, for `Trace_ELBO`, and through a draw
    of it (``init_to_value``) as the start of NUTS.

    Args:
        fitted: a `vigmm.Fit` or a `vigmm.Posterior`.
        trainable: whether the parameters of q are parameters of the guide (``q.0, q.1, ...``), which start
            where the fit ended, so that `SVI` goes on from there. By default q is fixed.

    Raises:
        SpecError: for a model without counterpart in NumPyro; if q is to be trained and its draws have no
            useful gradient, as those of the conjugate family.
    """
    q = as_distribution(fitted)
    model, prior, family = q.posterior.model, q.posterior.prior, q.posterior.family
    if trainable and not isinstance(family, Reparameterised):
        must = "one whose draws can be differentiated, such as 'meanfield', for a trainable guide"
        raise SpecError("family", must, type(family).__name__.lower())
    leaves, structure = jax.tree.flatten(q.posterior.params)
    generative = to_numpyro(model, prior)
    # The prior alone: one row that weighs nothing.
    nothing = (
        jnp.zeros((1, q.posterior.dim), prior.frame.scale.dtype),
        jnp.zeros((1,), prior.frame.scale.dtype),
    )

    def sample(*args: Any, **kwargs: Any) -> dict[str, Array]:
        mine = q
        if trainable:
            # Not the arrays themselves: an optimiser may donate what it is given.
            values = [numpyro.param(f"q.{i}", jnp.array(leaf)) for i, leaf in enumerate(leaves)]
            params = jax.tree.unflatten(structure, values)
            mine = PositionDistribution(dataclasses.replace(q.posterior, params=params))
        flat = numpyro.sample("position", mine, infer={"is_auxiliary": True})
        u = mine.unravel(flat)
        made = sites(model, prior, u)
        with handlers.block():
            log_prior, _ = log_density(generative, nothing, {}, made)
        numpyro.factor("volume", log_prior - model.log_prior(prior, u))
        return {
            name: numpyro.sample(name, dist.Delta(value, event_dim=jnp.ndim(value)))
            for name, value in made.items()
        }

    return sample
