"""Low rank: a Gaussian whose covariance is diagonal plus a few common factors.

u = loc + s * (e + V f), with e and f standard normal and V of M rows and R columns, free of units: the
covariance is S (I + V V^T) S. M (R + 2) numbers carry the R strongest dependences among all coordinates.

Reference: Ong, Nott and Smith (2018), Journal of Computational and Graphical Statistics 27.
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
from vigmm.math.linalg import LOG_2PI, cholesky, einsum, log_diag_sum, tril_inverse
from vigmm.models import Mixture, Position, Prior

__all__ = ["LowRank", "LowRankParams"]


@state
class LowRankParams:
    """Location and log scale of every coordinate, and the unit-free factors."""

    loc: Position
    log_scale: Position
    factors: Float[Array, "M R"]


@spec
class LowRank:
    """q(u) = N(u | loc, S (I + V V^T) S).

    Args:
        rank: R, the number of common factors.
    """

    rank: int = 10

    default_estimator: ClassVar[str] = "pathwise"

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", ">= 1", self.rank)

    def check(self, model: Mixture) -> None:
        """Fits every model."""

    def init(self, model: Mixture, guess: Guess) -> LowRankParams:
        """The guess, all but uncorrelated: at V = 0 exactly, no gradient would ever move V."""
        flat, _ = ravel_pytree(guess.loc)
        small = (
            0.1 / self.rank**0.5 * jax.random.normal(jax.random.key(0), (flat.size, self.rank), flat.dtype)
        )
        return LowRankParams(loc=guess.loc, log_scale=jax.tree.map(jnp.log, guess.scale), factors=small)

    def noise_size(self, model: Mixture, params: LowRankParams) -> int:
        """One number for each coordinate and each factor."""
        return draws.size(params.loc) + self.rank

    def push(
        self, model: Mixture, params: LowRankParams, noise: Float[Array, " MR"]
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw, and its log q from the noise."""
        loc, unravel = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        z = noise[: loc.size] + einsum("mr,r->m", params.factors, noise[loc.size :])
        return unravel(loc + jnp.exp(log_scale) * z), self._log_q(params, log_scale, z)

    def _log_q(
        self, params: LowRankParams, log_scale: Float[Array, " M"], z: Float[Array, " M"]
    ) -> Float[Array, ""]:
        """Of z ~ N(0, I + V V^T), with the inverse by Woodbury's identity: R x R, whatever M."""
        root, log_det = self._inner(params)
        white = einsum("rs,s->r", tril_inverse(root), einsum("mr,m->r", params.factors, z))
        square = jnp.sum(z**2) - jnp.sum(white**2)
        return -0.5 * (square + z.size * LOG_2PI) - log_det - jnp.sum(log_scale)

    def _inner(self, params: LowRankParams) -> tuple[Float[Array, "R R"], Float[Array, ""]]:
        """Cholesky factor of I + V^T V, and its log determinant."""
        gram = einsum("mr,ms->rs", params.factors, params.factors)
        root = cholesky(gram + jnp.eye(self.rank, dtype=gram.dtype))
        return root, log_diag_sum(root)

    def log_prob(self, model: Mixture, params: LowRankParams, u: Position) -> Float[Array, ""]:
        """Log q(u)."""
        loc, _ = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        return self._log_q(params, log_scale, (ravel_pytree(u)[0] - loc) * jnp.exp(-log_scale))

    def entropy(self, model: Mixture, params: LowRankParams) -> Float[Array, ""]:
        """sum_i log_scale_i + log|I + V^T V|/2 + M/2 (1 + log 2 pi)."""
        _, log_det = self._inner(params)
        return gaussian.entropy(ravel_pytree(params.log_scale)[0]) + log_det

    def sample(
        self, model: Mixture, params: LowRankParams, key: PRNGKey
    ) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        return draws.sample(self, model, params, key)

    def weights(self, model: Mixture, params: LowRankParams) -> Float[Array, " K"]:
        """Weights at the central position."""
        return jnp.exp(model.log_weights(params.loc))

    def log_predictive(
        self,
        model: Mixture,
        params: LowRankParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the mean over draws of pi_k p(x | component k)."""
        return draws.log_predictive(self, model, params, prior, x, key, num_draws=num_draws)
