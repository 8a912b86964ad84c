"""Reparameterization gradients: the assignments summed out, the parameters sampled.

    ELBO ~ (1/S) sum_s [ sum_b w_b log p(x_b | u_s) + log p(u_s) ] + H,   u_s = T(noise_s; params)   (1)

with three forms of the entropy H: closed form; -log q(u_s) from the noise, for families without one; or
-log q(u_s) with the parameters of log q held fixed ("sticking the landing", Roeder, Wu and Duvenaud 2017),
whose gradient noise vanishes where q is exact. All are unbiased; the first is the quietest far from the
optimum, and the last inverts the draw.

References:
    Kingma and Welling (2014); Roeder, Wu and Duvenaud (2017), NeurIPS 30.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators import noise as noises
from vigmm.estimators.base import Estimate
from vigmm.estimators.noise import Noise
from vigmm.estimators.sampling import differentiable, log_densities, push
from vigmm.families import ClosedEntropy, Family
from vigmm.models import Mixture, Prior, passes
from vigmm.models.passes import Kernel

__all__ = ["Pathwise"]

Terms = dict[str, Float[Array, ""]]


@spec
class Pathwise:
    """Pathwise (reparameterization) gradients, vmapped over Monte-Carlo samples.

    Args:
        num_samples: S, draws of the parameters per step.
        entropy: ``closed``, ``sampled`` (-log q of the draws) or ``stl`` (sticking the landing); ``None``
            takes the closed form where the family has one, and else the draws.
        noise: ``iid``, ``antithetic`` (mirrored pairs; far from the optimum) or ``qmc`` (randomly shifted
            Sobol points).
        tile: rows processed at a time; ``None`` chooses from the cache size.
        kernel: ``xla``, or ``pallas`` for fused kernels on a GPU: Gaussians with covariance matrices, in
            float32, of at most 128 columns; `tile` says nothing to them.
    """

    num_samples: int = 1
    entropy: Literal["closed", "sampled", "stl"] | None = None
    noise: Noise = "iid"
    tile: int | None = None
    kernel: Kernel = "xla"

    default_optimizer: ClassVar[tuple[str, str]] = ("adam", "adam")
    full_batch: ClassVar[bool] = False
    natural: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", ">= 1", self.num_samples)
        known = self.entropy in (None, "closed", "sampled", "stl")
        require(known, "entropy", "'closed', 'sampled', 'stl' or None", self.entropy)
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)
        noises.check(self.noise, self.num_samples)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse draws that cannot be differentiated, entropies without a closed form, unknowing kernels."""
        differentiable(model, family, self.noise)
        passes.check(model, self.kernel)
        has = self.entropy != "closed" or isinstance(family, ClosedEntropy)
        require(has, "entropy", "'sampled' or 'stl' for a family without a closed form", self.entropy)

    def final(self) -> Pathwise:
        """The same bound with -log q for the entropy, whose noise cancels near the optimum."""
        return Pathwise(num_samples=1, entropy="sampled", tile=self.tile)

    def _value(
        self,
        model: Mixture,
        family: Family,
        params: Any,
        prior: Prior,
        batch: Batch,
        key: PRNGKey,
    ) -> tuple[Terms, Float[Array, ""]]:
        u, log_q = push(model, family, params, key, noise=self.noise, num_samples=self.num_samples)
        if self.entropy == "stl":
            fixed = jax.lax.stop_gradient(params)
            log_q = jax.vmap(lambda one: family.log_prob(model, fixed, one))(u)
        found = log_densities(model, u, log_q, prior, batch, self.tile, kernel=self.kernel)
        terms = {"log_lik": jnp.mean(found.log_lik), "log_prior": jnp.mean(found.log_prior)}
        if self.entropy in (None, "closed") and isinstance(family, ClosedEntropy):
            terms["entropy"] = family.entropy(model, params)
            values = found.log_lik + found.log_prior
        else:
            terms["entropy"] = -jnp.mean(found.log_q)
            values = found.log_ratio
        return terms, noises.standard_error(self.noise, values)

    def value(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Terms:
        """The terms of equation (1)."""
        return self._value(model, family, params, prior, batch, key)[0]

    def estimate(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Estimate:
        """Equation (1) and minus its gradient."""

        def loss(params: Any) -> tuple[Float[Array, ""], tuple[Terms, Float[Array, ""]]]:
            terms, se = self._value(model, family, params, prior, batch, key)
            return -jax.tree.reduce(jnp.add, terms), (terms, jax.lax.stop_gradient(se))

        (value, (terms, se)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return Estimate(elbo=-value, grads=grads, terms=terms, se=se)
