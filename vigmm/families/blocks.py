"""Blocks: a dense Gaussian for each component, independent across components.

Label switching and identifiability make dependence between components multimodal; within a component, mean
and covariance are what correlates. K blocks of P^2/2 numbers grow linearly with K.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import draws, gaussian
from vigmm.families.base import Guess
from vigmm.models import Mixture, Position, Prior

__all__ = ["Blocks", "BlocksParams"]


@state
class BlocksParams:
    """Location, log scale and lower triangle C: of the weights, of each component, of what is shared."""

    loc: Position
    log_scale: Position
    lower: Position


@spec
class Blocks:
    """q(u) = N(weights) N(shared) prod_k N(component k), each with a dense covariance."""

    default_estimator: ClassVar[str] = "pathwise"

    def check(self, model: Mixture) -> None:
        """Fits every model."""

    def independent_blocks(self, model: Mixture) -> bool:
        """Whether q makes weights, components and what is shared independent of each other."""
        return True

    def init(self, model: Mixture, guess: Guess) -> BlocksParams:
        """The guess, uncorrelated."""

        def none(leaf: Array) -> Array:
            return jnp.zeros((*leaf.shape[:-1], gaussian.packed_size(leaf.shape[-1])), leaf.dtype)

        log_scale = jax.tree.map(jnp.log, guess.scale)
        return BlocksParams(loc=guess.loc, log_scale=log_scale, lower=jax.tree.map(none, guess.loc))

    def noise_size(self, model: Mixture, params: BlocksParams) -> int:
        """One number for each coordinate."""
        return draws.size(params.loc)

    def push(
        self, model: Mixture, params: BlocksParams, noise: Float[Array, " M"]
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw loc + L noise, block by block, with log q from the noise."""
        _, unravel = ravel_pytree(params.loc)
        split = unravel(noise)
        u = jax.tree.map(gaussian.push, params.loc, params.log_scale, params.lower, split)
        return u, self._log_q(params, split)

    def _log_q(self, params: BlocksParams, noise: Position) -> Float[Array, ""]:
        parts = jax.tree.map(gaussian.log_density, params.log_scale, noise)
        return jax.tree.reduce(jnp.add, parts)

    def log_prob(self, model: Mixture, params: BlocksParams, u: Position) -> Float[Array, ""]:
        """Log q(u), by a triangular solve for each block."""
        noise = jax.tree.map(gaussian.solve, params.loc, params.log_scale, params.lower, u)
        return self._log_q(params, noise)

    def entropy(self, model: Mixture, params: BlocksParams) -> Float[Array, ""]:
        """Sum of the blocks' entropies."""
        return jax.tree.reduce(jnp.add, jax.tree.map(gaussian.entropy, params.log_scale))

    def natural_gradient(self, model: Mixture, params: BlocksParams, grads: BlocksParams) -> BlocksParams:
        """Plain gradients times the inverse Fisher information, block by block."""
        leaves, treedef = jax.tree.flatten(params.log_scale)
        below = jax.tree.leaves(params.lower)
        plain = zip(
            *(jax.tree.leaves(part) for part in (grads.loc, grads.log_scale, grads.lower)), strict=True
        )
        moves = [gaussian.natural(*block) for block in zip(leaves, below, plain, strict=True)]
        loc, log_scale, lower = (jax.tree.unflatten(treedef, part) for part in zip(*moves, strict=True))
        return BlocksParams(loc=loc, log_scale=log_scale, lower=lower)

    def sample(self, model: Mixture, params: BlocksParams, key: PRNGKey) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        return draws.sample(self, model, params, key)

    def weights(self, model: Mixture, params: BlocksParams) -> Float[Array, " K"]:
        """Weights at the central position."""
        return jnp.exp(model.log_weights(params.loc))

    def log_predictive(
        self,
        model: Mixture,
        params: BlocksParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the mean over draws of pi_k p(x | component k)."""
        return draws.log_predictive(self, model, params, prior, x, key, num_draws=num_draws)
