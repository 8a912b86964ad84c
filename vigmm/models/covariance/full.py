"""Full covariance: every component has its own precision matrix.

A covariance structure owns its algebra: from a position or from a conjugate posterior it makes
`Whitened` components, whose log densities of rows are one matrix product; it knows its sufficient
statistics, its prior, its expectations and its Student-t predictive. A new structure is one new file
with these methods and one row in `COVARIANCES`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.math.linalg import LOG_2PI, einsum, log_diag_sum, tril_inverse
from vigmm.math.special import log_gamma_ratio
from vigmm.models.covariance import normal_wishart as nw_math
from vigmm.models.covariance.normal_wishart import Natural, NormalWishartParams

__all__ = ["Full", "Whitened"]


@state
class Whitened:
    """K components as log N_k(x) = log_scale_k - |W_k x - b_k|^2 / 2, with b_k = W_k loc_k."""

    log_scale: Float[Array, " K"]
    whitener: Float[Array, "K D D"]
    offset: Float[Array, "K D"]


@spec
class Full:
    """Full covariance matrices with a Normal-Wishart prior or posterior."""

    def position_size(self, dim: int) -> int:
        """Unconstrained coordinates of one component: D + D(D + 1)/2."""
        return dim + dim * (dim + 1) // 2

    # Reading a position -------------------------------------------------------------------

    def constrain(self, u: Float[Array, "K P"], dim: int) -> Whitened:
        """The components at position u: log_scale = log |W| - D/2 log 2 pi."""
        loc, log_diag, whitener = nw_math.unpack(u, dim)
        return Whitened(
            log_scale=jnp.sum(log_diag, axis=-1) - 0.5 * dim * LOG_2PI,
            whitener=whitener,
            offset=einsum("kij,kj->ki", whitener, loc),
        )

    def moments(self, u: Float[Array, "K P"], dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at position u."""
        loc, _, whitener = nw_math.unpack(u, dim)
        inverse = tril_inverse(whitener)
        return loc, einsum("kij,klj->kil", inverse, inverse)

    def log_normal(self, parts: Whitened, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log density, or expected log density, of each row under each component."""
        return parts.log_scale[None] - 0.5 * jnp.sum(self._residual(parts, x) ** 2, axis=-1)

    def _residual(self, parts: Whitened, x: Float[Array, "B D"]) -> Float[Array, "B K D"]:
        return einsum("bj,kij->bki", x, parts.whitener) - parts.offset[None]

    def log_prob(self, prior: NormalWishartParams, u: Float[Array, "K P"]) -> Float[Array, " K"]:
        """Log density of each component's position, Jacobian included."""
        return nw_math.log_prob(prior, u)

    # Conjugate algebra --------------------------------------------------------------------

    def natural(self, prior: NormalWishartParams, centre: Float[Array, "K D"]) -> Natural:
        """The prior in additive form about `centre`."""
        return nw_math.to_natural(prior, centre)

    def standard(self, natural: Natural) -> NormalWishartParams:
        """The standard form of additive parameters."""
        return nw_math.from_natural(natural)

    def stats(
        self, x: Float[Array, "B D"], weight: Float[Array, "B K"], centre: Float[Array, "K D"]
    ) -> Natural:
        """Weighted sufficient statistics about `centre`, shaped like the additive parameters."""
        shifted = x[:, None, :] - centre[None]
        scaled = weight[:, :, None] * shifted
        count = jnp.sum(weight, axis=0)
        return Natural(
            count=count,
            first=jnp.sum(scaled, axis=0),
            second=einsum("bki,bkj->kij", scaled, shifted),
            dof=count,
            centre=jnp.zeros_like(centre),
        )

    def expected(self, q: NormalWishartParams) -> Whitened:
        """E_q[log N(x | mu_k, Lambda_k)] as `Whitened` components (Bishop 10.64 to 10.66).

        = E[log|Lambda|]/2 - D/2 log 2 pi - D/(2 kappa) - nu |L^-1 (x - m)|^2 / 2.
        """
        dim = q.loc.shape[-1]
        whitener = jnp.sqrt(q.dof)[:, None, None] * tril_inverse(q.rate_factor)
        log_scale = 0.5 * (nw_math.expected_log_det(q) - dim * LOG_2PI - dim / q.mean_precision)
        return Whitened(log_scale=log_scale, whitener=whitener, offset=einsum("kij,kj->ki", whitener, q.loc))

    def kl(self, q: NormalWishartParams, prior: NormalWishartParams) -> Float[Array, " K"]:
        """KL(q || prior) of each component."""
        return nw_math.kl(q, prior)

    def entropy(self, q: NormalWishartParams) -> Float[Array, " K"]:
        """Entropy of each component's position under q."""
        return nw_math.entropy(q)

    def log_predictive(self, q: NormalWishartParams, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Posterior predictive of each component: a Student t (Bishop 10.81, 10.82).

        t_df(m, B (kappa + 1) / (kappa df)) with df = nu - D + 1.
        """
        dim = q.loc.shape[-1]
        df = q.dof - dim + 1.0
        shrink = q.mean_precision / (q.mean_precision + 1.0)
        whitener = jnp.sqrt(shrink)[:, None, None] * tril_inverse(q.rate_factor)
        log_scale = (
            log_gamma_ratio(0.5 * df, dim)
            + 0.5 * dim * (jnp.log(shrink) - jnp.log(jnp.asarray(jnp.pi, df.dtype)))
            - log_diag_sum(q.rate_factor)
        )
        parts = Whitened(log_scale=log_scale, whitener=whitener, offset=einsum("kij,kj->ki", whitener, q.loc))
        square = jnp.sum(self._residual(parts, x) ** 2, axis=-1)
        return log_scale[None] - 0.5 * (df + dim)[None] * jnp.log1p(square)

    def gaussian_fit(self, q: NormalWishartParams) -> tuple[Float[Array, "K P"], Float[Array, "K P"]]:
        """Mean and sd of independent Gaussians over the position that are close to q."""
        return nw_math.gaussian_fit(q)

    def sample(self, q: NormalWishartParams, key: PRNGKey) -> Float[Array, "K P"]:
        """One draw of every component's position from q."""
        return nw_math.sample(q, key)
