"""Reparameterization gradients: the assignments summed out, the parameters sampled.

    ELBO ~ (1/S) sum_s [ sum_b w_b log p(x_b | u_s) + log p(u_s) ] + H,   u_s = T(noise_s; params)   (1)

with two forms of the entropy H: closed form, or -log q(u_s) with the parameters of log q held fixed
("sticking the landing", Roeder, Wu and Duvenaud 2017), whose gradient noise vanishes where q is
exact. Either is unbiased; the first is the quieter far from the optimum.

References:
    Kingma and Welling (2014); Roeder, Wu and Duvenaud (2017), NeurIPS 30.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators.base import Estimate
from vigmm.families import Conjugate, Family
from vigmm.math.tiles import choose_tile, tiled_value
from vigmm.models import Mixture, Position, Prior

__all__ = ["Pathwise"]


@spec
class Pathwise:
    """Pathwise (reparameterization) gradients, vmapped over Monte-Carlo samples.

    Args:
        num_samples: S, draws of the parameters per step.
        entropy: ``closed`` or ``stl`` (sticking the landing).
        tile: rows processed at a time; ``None`` chooses from the cache size.
    """

    num_samples: int = 1
    entropy: Literal["closed", "stl"] = "closed"
    tile: int | None = None

    default_optimizer: ClassVar[tuple[str, str]] = ("adam", "adam")

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", ">= 1", self.num_samples)
        require(self.entropy in ("closed", "stl"), "entropy", "'closed' or 'stl'", self.entropy)
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse families whose draws cannot be differentiated."""
        if isinstance(family, Conjugate):
            must = "one with reparameterised draws, such as 'meanfield': gradients of Beta and Wishart draws"
            raise SpecError(
                "family", must + " are not finite for the small shapes of empty components", "conjugate"
            )

    def value(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> dict[str, Float[Array, ""]]:
        """The terms of equation (1)."""
        rows, dim = batch.x.shape
        tile = self.tile or choose_tile(rows, model.num_components, dim, itemsize=batch.x.dtype.itemsize)

        def tile_log_lik(u: Position, piece: Batch) -> Float[Array, ""]:
            return jnp.sum(piece.weight * model.log_lik(model.constrain(u, dim), piece.x))

        def one(key: PRNGKey) -> dict[str, Float[Array, ""]]:
            u, _ = family.sample(model, params, key)
            terms = {
                "log_lik": tiled_value(tile_log_lik, u, batch, tile),
                "log_prior": model.log_prior(prior, u),
            }
            if self.entropy == "stl":
                terms["entropy"] = -family.log_prob(model, jax.lax.stop_gradient(params), u)
            return terms

        samples = jax.vmap(one)(jax.random.split(key, self.num_samples))
        terms = {name: jnp.mean(values) for name, values in samples.items()}
        if self.entropy == "closed":
            terms["entropy"] = family.entropy(model, params)
        return terms

    def estimate(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Estimate:
        """Equation (1) and minus its gradient."""

        def loss(params: Any) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            terms = self.value(model, family, params, prior, batch, key)
            return -jax.tree.reduce(jnp.add, terms), terms

        (value, terms), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return Estimate(elbo=-value, grads=grads, terms=terms)
