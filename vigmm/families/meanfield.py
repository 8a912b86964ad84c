"""Mean field: an independent Gaussian for every coordinate of the position."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import predictive
from vigmm.families.conjugate import Conjugate, ConjugateParams
from vigmm.math.linalg import LOG_2PI
from vigmm.models import Mixture, Position
from vigmm.models import weights as sticks

__all__ = ["MeanField", "MeanFieldParams"]


@state
class MeanFieldParams:
    """Location and log standard deviation of every coordinate."""

    loc: Position
    log_scale: Position


def _total(tree: Any) -> Float[Array, ""]:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.sum, tree))


@spec
class MeanField:
    """q(u) = prod_i N(u_i | loc_i, exp(log_scale_i)^2)."""

    default_estimator: ClassVar[str] = "pathwise"

    def init(self, model: Mixture, start: ConjugateParams) -> MeanFieldParams:
        """Independent Gaussians close to a conjugate posterior: its means, its conditional scales.

        Its scales are about 1/sqrt(N_k) from the first step: an optimiser that had to find them
        from unit scale would spend most of its run on that.
        """
        posterior = Conjugate().posterior(model, start)
        loc_weights, sd_weights = sticks.gaussian_fit(posterior.weights)
        loc, sd = model.algebra.gaussian_fit(posterior.components)
        return MeanFieldParams(
            loc=Position(weights=loc_weights, components=loc),
            log_scale=Position(weights=jnp.log(sd_weights), components=jnp.log(sd)),
        )

    def sample(
        self, model: Mixture, params: MeanFieldParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw loc + scale * noise, with log q = -|noise|^2/2 - sum(log_scale) - P/2 log 2 pi."""
        flat, unravel = ravel_pytree(params.loc)
        # One call for all leaves: every call to the generator costs a second of compilation.
        noise = unravel(jax.random.normal(key, flat.shape, flat.dtype))
        u = jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, params.loc, params.log_scale, noise)
        return u, self._log_q(params, noise)

    def _log_q(self, params: MeanFieldParams, noise: Position) -> Float[Array, ""]:
        terms = jax.tree.map(lambda s, e: -0.5 * (e * e + LOG_2PI) - s, params.log_scale, noise)
        return _total(terms)

    def log_prob(self, model: Mixture, params: MeanFieldParams, u: Position) -> Float[Array, ""]:
        """Log q(u); the noise is recovered coordinate by coordinate, which is exact here."""
        noise = jax.tree.map(lambda v, m, s: (v - m) * jnp.exp(-s), u, params.loc, params.log_scale)
        return self._log_q(params, noise)

    def entropy(self, model: Mixture, params: MeanFieldParams) -> Float[Array, ""]:
        """sum_i log_scale_i + P/2 (1 + log 2 pi)."""
        return _total(jax.tree.map(lambda s: s + 0.5 * (1.0 + LOG_2PI), params.log_scale))

    def weights(self, model: Mixture, params: MeanFieldParams) -> Float[Array, " K"]:
        """Weights at the central position."""
        return jnp.exp(sticks.log_weights(params.loc.weights))

    def log_predictive(
        self,
        model: Mixture,
        params: MeanFieldParams,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B K"]:
        """Log of the mean over draws of pi_k N(x | component k)."""
        return predictive.from_draws(self, model, params, x, key, num_draws=num_draws)
