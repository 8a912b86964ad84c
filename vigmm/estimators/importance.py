"""Importance-weighted bounds: tighter than the ELBO, and the gradients that survive many samples.

    L_S = E[ log (1/S) sum_s w_s ],   w_s = p(X, u_s) / q(u_s),   ELBO = L_1 <= L_S <= log p(X)       (1)

Two gradients: ``iwae`` differentiates (1) itself; its signal for q falls as S grows (Rainforth et al. 2018).
``dreg`` (doubly reparameterised, Tucker et al. 2019) has the same mean without that fault:

    sum_s v_s^2 d log w_s / d u_s  d u_s / d params,   v_s = w_s / sum w.                          (2)

The logarithm of a mean of *scaled minibatch* estimates is not a bound, so these estimators need the full
batch.

References:
    Burda, Grosse and Salakhutdinov (2016), ICLR; Rainforth et al. (2018), ICML; Tucker, Lawson, Gu and
    Maddison (2019), ICLR.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators.base import Estimate
from vigmm.estimators.sampling import LogDensities, differentiable, log_densities, push
from vigmm.families import Family
from vigmm.models import Mixture, Prior

__all__ = ["Importance"]

Terms = dict[str, Float[Array, ""]]


@spec
class Importance:
    """The importance-weighted bound of S draws, on the full batch.

    Args:
        num_samples: S, draws per bound.
        gradient: ``dreg`` or ``iwae``.
        tile: rows processed at a time; ``None`` chooses from the cache size.
    """

    num_samples: int = 8
    gradient: Literal["dreg", "iwae"] = "dreg"
    tile: int | None = None

    default_optimizer: ClassVar[tuple[str, str]] = ("adam", "adam")
    full_batch: ClassVar[bool] = True
    natural: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", ">= 1", self.num_samples)
        require(self.gradient in ("dreg", "iwae"), "gradient", "'dreg' or 'iwae'", self.gradient)
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse families whose draws cannot be differentiated."""
        differentiable(model, family, "iid")

    def final(self) -> Importance:
        """Itself."""
        return self

    def value(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Terms:
        """The terms of equation (1), each the mean under the normalised weights v.

        L_S = sum_s v_s (log_lik + log_prior - log_q) + H(v) - log S; the last two are ``tightening``.
        """
        u, log_q = push(model, family, params, key, noise="iid", num_samples=self.num_samples)
        return _terms(log_densities(model, u, log_q, prior, batch, self.tile))

    def estimate(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Estimate:
        """Equation (1) and minus the gradient that was asked for."""

        def loss(params: Any) -> tuple[Float[Array, ""], LogDensities]:
            u, log_q = push(model, family, params, key, noise="iid", num_samples=self.num_samples)
            if self.gradient == "dreg":
                fixed = jax.lax.stop_gradient(params)
                log_q = jax.vmap(lambda one: family.log_prob(model, fixed, one))(u)
            found = log_densities(model, u, log_q, prior, batch, self.tile)
            if self.gradient == "iwae":
                return -jax.nn.logsumexp(found.log_ratio), found
            weight = jax.lax.stop_gradient(jax.nn.softmax(found.log_ratio))
            return -jnp.sum(weight**2 * found.log_ratio), found

        (_, found), grads = jax.value_and_grad(loss, has_aux=True)(params)
        terms = _terms(found)
        return Estimate(elbo=jax.tree.reduce(jnp.add, terms), grads=grads, terms=terms, se=_error(found))


def _terms(found: LogDensities) -> Terms:
    log_v = jax.nn.log_softmax(found.log_ratio)
    v = jnp.exp(log_v)
    tightening = -jnp.sum(v * log_v) - jnp.log(jnp.asarray(v.shape[0], v.dtype))
    return {
        "log_lik": jnp.sum(v * found.log_lik),
        "log_prior": jnp.sum(v * found.log_prior),
        "entropy": -jnp.sum(v * found.log_q),
        "tightening": tightening,
    }


def _error(found: LogDensities) -> Float[Array, ""]:
    """Delta method: sd of the weights relative to their mean, over sqrt(S); infinite for one draw."""
    count = found.log_q.shape[0]
    if count == 1:
        return jnp.full((), jnp.inf, found.log_q.dtype)
    relative = count * jax.nn.softmax(found.log_ratio)
    error: Array = jnp.std(relative, ddof=1) / count**0.5
    return error
