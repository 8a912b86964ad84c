"""Mean field: an independent Gaussian for every coordinate of the position."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import draws, gaussian
from vigmm.families.base import Guess
from vigmm.models import Mixture, Position, Prior

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

    def check(self, model: Mixture) -> None:
        """Fits every model."""

    def independent_blocks(self, model: Mixture) -> bool:
        """Whether q makes weights, components and what is shared independent of each other."""
        return True

    def init(self, model: Mixture, guess: Guess) -> MeanFieldParams:
        """The guess: its scales are about 1/sqrt(N_k) from the first step.

        An optimiser that had to find them from unit scale would spend most of its run on that.
        """
        return MeanFieldParams(loc=guess.loc, log_scale=jax.tree.map(jnp.log, guess.scale))

    def noise_size(self, model: Mixture, params: MeanFieldParams) -> int:
        """One number for each coordinate."""
        return draws.size(params.loc)

    def push(
        self, model: Mixture, params: MeanFieldParams, noise: Float[Array, " M"]
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw loc + scale * noise, with log q = -|noise|^2/2 - sum(log_scale) - P/2 log 2 pi."""
        _, unravel = ravel_pytree(params.loc)
        split = unravel(noise)
        u = jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, params.loc, params.log_scale, split)
        return u, self._log_q(params, split)

    def _log_q(self, params: MeanFieldParams, noise: Position) -> Float[Array, ""]:
        return _total(jax.tree.map(gaussian.log_density, params.log_scale, noise))

    def log_prob(self, model: Mixture, params: MeanFieldParams, u: Position) -> Float[Array, ""]:
        """Log q(u); the noise is recovered coordinate by coordinate, which is exact here."""
        noise = jax.tree.map(lambda v, m, s: (v - m) * jnp.exp(-s), u, params.loc, params.log_scale)
        return self._log_q(params, noise)

    def entropy(self, model: Mixture, params: MeanFieldParams) -> Float[Array, ""]:
        """sum_i log_scale_i + P/2 (1 + log 2 pi)."""
        return _total(jax.tree.map(gaussian.entropy, params.log_scale))

    def natural_gradient(
        self, model: Mixture, params: MeanFieldParams, grads: MeanFieldParams
    ) -> MeanFieldParams:
        """Fisher information 1/scale^2 of the locations and 2 of the log scales, divided out."""
        loc = jax.tree.map(lambda s, g: jnp.exp(2.0 * s) * g, params.log_scale, grads.loc)
        return MeanFieldParams(loc=loc, log_scale=jax.tree.map(lambda g: 0.5 * g, grads.log_scale))

    def sample(
        self, model: Mixture, params: MeanFieldParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        return draws.sample(self, model, params, key)

    def weights(self, model: Mixture, params: MeanFieldParams) -> Float[Array, " K"]:
        """Weights at the central position."""
        return jnp.exp(model.log_weights(params.loc))

    def log_predictive(
        self,
        model: Mixture,
        params: MeanFieldParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the mean over draws of pi_k p(x | component k)."""
        return draws.log_predictive(self, model, params, prior, x, key, num_draws=num_draws)
