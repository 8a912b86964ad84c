"""Full rank: one dense Gaussian over the whole position.

M^2/2 numbers for M coordinates: for small models, where dependence between weights and components matters.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import draws, gaussian
from vigmm.families.base import Guess
from vigmm.models import Mixture, Position, Prior

__all__ = ["FullRank", "FullRankParams"]

# 4,000 coordinates have 8 million entries below the diagonal; more is a mistake, not a model.
_LIMIT = 4_000


@state
class FullRankParams:
    """Location and log scale of every coordinate, and the unit-free lower triangle over all of them."""

    loc: Position
    log_scale: Position
    lower: Float[Array, " Q"]


@spec
class FullRank:
    """q(u) = N(u | loc, L L^T)."""

    default_estimator: ClassVar[str] = "pathwise"

    def check(self, model: Mixture) -> None:
        """Fits every model of up to 4,000 coordinates, which only the data decide."""

    def init(self, model: Mixture, guess: Guess) -> FullRankParams:
        """The guess, uncorrelated."""
        flat, _ = ravel_pytree(guess.loc)
        few = f"one for at most {_LIMIT} coordinates: 'blocks' or 'lowrank' instead"
        require(flat.size <= _LIMIT, "family", few, f"fullrank with {flat.size}")
        return FullRankParams(
            loc=guess.loc,
            log_scale=jax.tree.map(jnp.log, guess.scale),
            lower=jnp.zeros((gaussian.packed_size(flat.size),), flat.dtype),
        )

    def noise_size(self, model: Mixture, params: FullRankParams) -> int:
        """One number for each coordinate."""
        return draws.size(params.loc)

    def push(
        self, model: Mixture, params: FullRankParams, noise: Float[Array, " M"]
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw loc + L noise, with log q from the noise."""
        loc, unravel = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        u = gaussian.push(loc, log_scale, params.lower, noise)
        return unravel(u), gaussian.log_density(log_scale, noise)

    def log_prob(self, model: Mixture, params: FullRankParams, u: Position) -> Float[Array, ""]:
        """Log q(u), by one triangular solve."""
        loc, _ = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        noise = gaussian.solve(loc, log_scale, params.lower, ravel_pytree(u)[0])
        return gaussian.log_density(log_scale, noise)

    def entropy(self, model: Mixture, params: FullRankParams) -> Float[Array, ""]:
        """sum_i log_scale_i + P/2 (1 + log 2 pi)."""
        return gaussian.entropy(ravel_pytree(params.log_scale)[0])

    def natural_gradient(
        self, model: Mixture, params: FullRankParams, grads: FullRankParams
    ) -> FullRankParams:
        """Plain gradients times the inverse Fisher information."""
        _, unravel = ravel_pytree(params.loc)
        plain = ravel_pytree(grads.loc)[0], ravel_pytree(grads.log_scale)[0], grads.lower
        loc, log_scale, lower = gaussian.natural(ravel_pytree(params.log_scale)[0], params.lower, plain)
        return FullRankParams(loc=unravel(loc), log_scale=unravel(log_scale), lower=lower)

    def sample(
        self, model: Mixture, params: FullRankParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        return draws.sample(self, model, params, key)

    def weights(self, model: Mixture, params: FullRankParams) -> Float[Array, " K"]:
        """Weights at the central position."""
        return jnp.exp(model.log_weights(params.loc))

    def log_predictive(
        self,
        model: Mixture,
        params: FullRankParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the mean over draws of pi_k p(x | component k)."""
        return draws.log_predictive(self, model, params, prior, x, key, num_draws=num_draws)
