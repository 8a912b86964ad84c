"""Natural gradients in closed form for conjugate posteriors.

With responsibilities r at their optimum for the current q, the bound is

    ELBO = sum_b w_b logsumexp_k(E[log pi_k] + E[log N_k(x_b)]) - KL(q || prior),             (1)

and its natural gradient in the additive parameters lambda is (prior + statistics) - lambda
(Hoffman et al. 2013, eq. 15). A step of rate 1 on the full batch is coordinate ascent; a decreasing
rate on minibatches is stochastic variational inference.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators.base import Estimate
from vigmm.families import Conjugate, Family
from vigmm.families.conjugate import ConjugateParams
from vigmm.math.rows import softmax
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Prior

__all__ = ["Natural"]


@spec
class Natural:
    """The exact expected bound and its natural gradient; needs the `conjugate` family.

    Args:
        tile: rows processed at a time; ``None`` chooses from the cache size.
    """

    tile: int | None = None

    default_optimizer: ClassVar[tuple[str, str]] = ("robbins_monro", "sgd")
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse families without natural parameters."""
        _conjugate(family)

    def final(self) -> Natural:
        """Itself."""
        return self

    def value(
        self,
        model: Mixture,
        family: Family,
        params: ConjugateParams,
        prior: Prior,
        batch: Batch,
        key: PRNGKey,
    ) -> dict[str, Float[Array, ""]]:
        """The terms of equation (1)."""
        family = _conjugate(family)
        posterior = family.posterior(model, params)
        theta = family.expected(model, posterior)

        def tile_log_lik(piece: Batch) -> Float[Array, ""]:
            return jnp.sum(piece.weight * model.log_lik(theta, piece.x))

        log_lik = tiled_sum(tile_log_lik, batch, self._tile(model, batch))
        return {"log_lik": log_lik, **family.neg_kl(model, posterior, prior)}

    def estimate(
        self,
        model: Mixture,
        family: Family,
        params: ConjugateParams,
        prior: Prior,
        batch: Batch,
        key: PRNGKey,
    ) -> Estimate:
        """Equation (1) and lambda - (prior + statistics). `key` is not used: nothing is sampled.

        Each row is read once, for its responsibilities and for the statistics together.
        """
        family = _conjugate(family)
        posterior = family.posterior(model, params)
        theta = family.expected(model, posterior)
        centre = params.components.centre

        def tile_sums(piece: Batch) -> dict[str, Any]:
            shares, log_lik = softmax(model.log_joint(theta, piece.x))
            resp = piece.weight[:, None] * shares
            return {
                "log_lik": jnp.sum(piece.weight * log_lik),
                "counts": jnp.sum(resp, axis=0),
                "stats": model.algebra.stats(piece.x, resp, centre),
            }

        sums = tiled_sum(tile_sums, batch, self._tile(model, batch))
        target = family.target(model, prior, params, sums["counts"], sums["stats"])
        terms = {"log_lik": sums["log_lik"], **family.neg_kl(model, posterior, prior)}
        return Estimate(
            elbo=jax.tree.reduce(jnp.add, terms),
            grads=jax.tree.map(jnp.subtract, params, target),
            terms=terms,
            se=jnp.zeros((), sums["log_lik"].dtype),
        )

    def _tile(self, model: Mixture, batch: Batch) -> int:
        rows, dim = batch.x.shape
        return self.tile or choose_tile(rows, model.num_components, dim, itemsize=batch.x.dtype.itemsize)


def _conjugate(family: Family) -> Conjugate:
    if not isinstance(family, Conjugate):
        raise SpecError("family", "'conjugate' for the natural estimator", type(family).__name__)
    return family
