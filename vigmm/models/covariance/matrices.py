"""Covariance matrices: one for each component (`Full`), or one that all share (`Tied`).

A covariance structure owns its algebra: from a position or from a conjugate posterior it makes
`Whitened` components, whose distances to rows are one matrix product; it knows its sufficient
statistics, its prior, its expectations and its Student-t predictive.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core.struct import spec, state
from vigmm.core.typing import PRNGKey
from vigmm.math.features import Kind
from vigmm.math.linalg import cholesky, einsum, log_diag_sum, tril_inverse
from vigmm.math.rows import FEW_COLUMNS, scatter
from vigmm.math.special import log_gamma_ratio
from vigmm.models.covariance import fisher
from vigmm.models.covariance import normal_wishart as nw_math
from vigmm.models.covariance.base import Hyper, Scales, StructurePosition
from vigmm.models.covariance.normal_wishart import Natural, NormalWishartParams, pooled, spread

__all__ = ["Full", "Matrices", "Tied", "Whitened"]


@state
class Whitened:
    """K components with squared distance |W x - b_k|^2, b_k = W loc_k, W one of C whiteners."""

    log_det: Float[Array, " K"]
    whitener: Float[Array, "C D D"]
    offset: Float[Array, "K D"]
    loc: Float[Array, "K D"]


@spec
class Matrices:
    """Precision matrices with a Normal-Wishart prior or posterior; `tied`: one for all components."""

    tied: bool = False

    def position_size(self, dim: int) -> int:
        """Coordinates of one component: D, and D(D + 1)/2 for a matrix of its own."""
        return dim if self.tied else dim + dim * (dim + 1) // 2

    def shared_size(self, dim: int) -> int:
        """Coordinates of the matrix that all share."""
        return dim * (dim + 1) // 2 if self.tied else 0

    def _split(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "C P"]]:
        loc, coords = u.components[:, :dim], u.components[:, dim:]
        return loc, u.shared[None] if self.tied else coords

    def _join(self, loc: Float[Array, "K D"], coords: Float[Array, "C P"]) -> StructurePosition:
        if self.tied:
            return StructurePosition(components=loc, shared=coords[0])
        both = jnp.concatenate([loc, coords], axis=-1)
        return StructurePosition(components=both, shared=jnp.zeros((0,), loc.dtype))

    # Reading a position -------------------------------------------------------------------

    def constrain(self, u: StructurePosition, dim: int) -> Whitened:
        """The components at position u."""
        loc, coords = self._split(u, dim)
        log_diag, whitener = nw_math.unpack(coords, dim)
        return _whitened(jnp.sum(log_diag, axis=-1), whitener, loc)

    def moments(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at position u."""
        loc, coords = self._split(u, dim)
        return loc, spread(_covariance(coords, dim), loc.shape[0])

    def marginal(self, u: StructurePosition, dim: int, seen: Float[Array, " D"]) -> Whitened:
        """The components of the columns that are seen, exactly: the factor of the covariance's sub-matrix.

        What is not seen has a unit row in the matrix that is factored, which leaves the others' factor as
        it is, and then a row of zeros.
        """
        loc, coords = self._split(u, dim)
        both = seen[:, None] * seen[None, :]
        cov = _covariance(coords, dim) * both[None] + jnp.diag(1.0 - seen)[None]
        root = cholesky(cov)
        whitener = tril_inverse(root) * both[None]
        return _whitened(-log_diag_sum(root), whitener, loc)

    def scales(self, u: StructurePosition, dim: int) -> Scales:
        """Means, standard deviations and correlations.

        From coordinates to Lambda: `log_jacobian`; to Sigma: |Lambda|^-(D+1) (Muirhead 1982, theorem
        2.1.8); to (sd, correlation): 1 / (2^D prod_d sd_d^D).
        """
        loc, coords = self._split(u, dim)
        cov = _covariance(coords, dim)
        log_sd = 0.5 * jnp.log(jnp.diagonal(cov, axis1=-2, axis2=-1))
        inverse_sd = jnp.exp(-log_sd)
        log_diag = coords[:, :dim]
        volume = nw_math.log_jacobian(log_diag) - 2.0 * (dim + 1) * jnp.sum(log_diag, axis=-1)
        volume = volume - dim * np.log(2.0) - dim * jnp.sum(log_sd, axis=-1)
        correlation = cov * inverse_sd[:, :, None] * inverse_sd[:, None, :]
        return Scales(loc=loc, log_sd=log_sd, correlation=correlation, log_jacobian=jnp.sum(volume))

    def square(self, parts: Whitened, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """|W_k x - b_k|^2: one matrix product, and no triangular solve on rows."""
        if x.shape[1] <= FEW_COLUMNS:
            white = einsum("bj,kij->bki", x, parts.whitener)
            return jnp.sum((white - parts.offset[None]) ** 2, axis=-1)
        white = einsum("kij,bj->kib", parts.whitener, x)
        return jnp.sum((white - parts.offset[:, :, None]) ** 2, axis=1).T

    @property
    def features(self) -> Kind:
        """Products of columns."""
        return "products"

    @property
    def sloped(self) -> bool:
        """No: slopes are rounded, for all rows alike, and whitened rows take no longer."""
        return False

    def slopes(self, parts: Whitened) -> Float[Array, "K E"]:
        """-Lambda_ii / 2 and -Lambda_ij for the products, Lambda mu for the columns."""
        num, dim = parts.offset.shape
        rows, columns = np.triu_indices(dim)
        half = np.where(rows == columns, 0.5, 1.0)
        precision = _precision(parts)
        products = -precision[:, rows, columns] * jnp.asarray(half, precision.dtype)[None]
        linear = einsum("kij,ki->kj", spread(parts.whitener, num), parts.offset)
        return jnp.concatenate([spread(products, num), linear], axis=-1)

    def roughness(self, parts: Whitened, power: Float[Array, " D"]) -> Float[Array, " K"]:
        """Eps (sum_ij Lambda_ij^2 v_i v_j)^(1/2), with v = power + mu^2."""
        v = power[None] + parts.loc**2
        eps = float(np.finfo(v.dtype).eps)
        squares = spread(_precision(parts) ** 2, v.shape[0])
        terms = jnp.sum(einsum("kij,kj->ki", squares, v) * v, axis=-1)
        return eps * jnp.sqrt(terms)

    def collect(self, moments: Float[Array, "K F"], centre: Float[Array, "K D"]) -> Natural:
        """Statistics about the origin, moved to `centre`."""
        dim = centre.shape[1]
        rows, columns = np.triu_indices(dim)
        place = np.zeros((dim, dim), np.int32)
        place[rows, columns] = place[columns, rows] = np.arange(len(rows))
        sums, first, count = moments[:, : len(rows)], moments[:, len(rows) : -1], moments[:, -1]
        second = sums[:, place.ravel()].reshape(-1, dim, dim)
        second = pooled(second, 1) if self.tied else second
        about = Natural(
            count=count,
            first=first,
            second=second,
            dof=pooled(count, second.shape[0]),
            centre=jnp.zeros_like(centre),
        )
        return nw_math.moved(about, centre)

    def prior(self, hyper: Hyper, num_components: int, dtype: Any) -> NormalWishartParams:
        """Normal-Wishart with rate (nu - D - 1) times the expected covariance, or as `Hyper.ratio` says."""
        matrices = 1 if self.tied else num_components
        factor = np.linalg.cholesky(hyper.rate * hyper.covariance)

        def repeat(value: Any, count: int) -> Array:
            # Converted on the host: on the device every shape would be a program to compile.
            return jnp.asarray(np.repeat(np.asarray(value, dtype)[None], count, axis=0))

        return NormalWishartParams(
            loc=repeat(hyper.loc, num_components),
            mean_precision=repeat(hyper.mean_precision, num_components),
            dof=repeat(hyper.dof, matrices),
            rate_factor=repeat(factor, matrices),
        )

    def scaled(self, prior: NormalWishartParams, factor: Float[Array, ""]) -> NormalWishartParams:
        """The prior with s B in the place of B."""
        return dataclasses.replace(prior, rate_factor=jnp.sqrt(factor) * prior.rate_factor)

    def scale_terms(
        self, q: NormalWishartParams, prior: NormalWishartParams
    ) -> tuple[Float[Array, " G"], Float[Array, " G"]]:
        """|s B|^(nu/2) exp(-s tr(B Lambda)/2): n = nu D/2 and T = nu_q tr(B B_q^-1)/2."""
        root = einsum("kij,kjl->kil", tril_inverse(q.rate_factor), prior.rate_factor)
        trace = jnp.sum(root**2, axis=(-2, -1))
        return 0.5 * q.loc.shape[-1] * prior.dof, 0.5 * q.dof * trace

    def log_prob(self, prior: NormalWishartParams, u: StructurePosition) -> Float[Array, ""]:
        """Log density of the position, Jacobian included."""
        return nw_math.log_prob(prior, *self._split(u, prior.loc.shape[-1]))

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
        return self.gathered(jnp.sum(weight, axis=0), *scatter(x, weight, centre))

    def gathered(
        self, count: Float[Array, " K"], first: Float[Array, "K D"], second: Float[Array, "K D D"]
    ) -> Natural:
        """Sufficient statistics from a count and two moments of each component."""
        second = pooled(second, 1) if self.tied else second
        return Natural(
            count=count,
            first=first,
            second=second,
            dof=pooled(count, second.shape[0]),
            centre=jnp.zeros_like(first),
        )

    def order(self, natural: Natural, index: Array) -> Natural:
        """The components in another order; a shared matrix stays."""
        own = slice(None) if self.tied else index
        return Natural(
            count=natural.count[index],
            first=natural.first[index],
            second=natural.second[own],
            dof=natural.dof[own],
            centre=natural.centre[index],
        )

    def regroup(
        self, stats: Natural, shift: Float[Array, "K D"], group: Int[Array, " K"], num_groups: int
    ) -> Natural:
        """Statistics of groups of components, about centres that were shifted."""
        return nw_math.regroup(stats, shift, group, num_groups)

    def log_partition(self, natural: Natural) -> Float[Array, ""]:
        """Log normaliser of additive parameters, summed over components."""
        return nw_math.log_partition(natural)

    def expected(self, q: NormalWishartParams) -> Whitened:
        """E_q[log N(x | mu_k, Lambda_k)] as `Whitened` components (Bishop 10.64 to 10.66).

        = E[log|Lambda|]/2 - D/2 log 2 pi - D/(2 kappa) - nu |L^-1 (x - m)|^2 / 2.
        """
        dim = q.loc.shape[1]
        whitener = jnp.sqrt(q.dof)[:, None, None] * tril_inverse(q.rate_factor)
        made = _whitened(0.5 * nw_math.expected_log_det(q), whitener, q.loc)
        log_det = made.log_det - 0.5 * dim / q.mean_precision
        return dataclasses.replace(made, log_det=log_det)

    def kl_parts(
        self, q: NormalWishartParams, prior: NormalWishartParams
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """KL(q || prior) of means given covariances, and of covariances."""
        return nw_math.kl_parts(q, prior)

    def entropy(self, q: NormalWishartParams) -> Float[Array, ""]:
        """Entropy of the position under q."""
        return nw_math.entropy(q)

    def log_predictive(self, q: NormalWishartParams, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Posterior predictive of each component: a Student t (Bishop 10.81, 10.82).

        t_df(m, B (kappa + 1) / (kappa df)) with df = nu - D + 1.
        """
        num, dim = q.loc.shape
        df = spread(q.dof - dim + 1.0, num)
        shrink = q.mean_precision / (q.mean_precision + 1.0)
        parts = _whitened(-log_diag_sum(q.rate_factor), tril_inverse(q.rate_factor), q.loc)
        log_scale = (
            log_gamma_ratio(0.5 * df, dim)
            + 0.5 * dim * (jnp.log(shrink) - jnp.log(jnp.asarray(jnp.pi, df.dtype)))
            + parts.log_det
        )
        square = shrink[None] * self.square(parts, x)
        return log_scale[None] - 0.5 * (df + dim)[None] * jnp.log1p(square)

    def gaussian_fit(self, q: NormalWishartParams) -> tuple[StructurePosition, StructurePosition]:
        """Mean and sd of independent Gaussians over the position that are close to q."""
        fit = nw_math.gaussian_fit(q)
        return self._join(fit.loc, fit.coords), self._join(fit.loc_sd, fit.coords_sd)

    def sample(self, q: NormalWishartParams, key: PRNGKey) -> StructurePosition:
        """One draw of the position from q."""
        return self._join(*nw_math.sample(q, key))

    def natural_gradient(self, natural: Natural, grads: Natural) -> Natural:
        """The inverse Fisher information times a gradient."""
        return fisher.normal_wishart(natural, grads)


def _whitened(
    log_det: Float[Array, " C"], whitener: Float[Array, "C D D"], loc: Float[Array, "K D"]
) -> Whitened:
    num = loc.shape[0]
    offset = einsum("kij,kj->ki", spread(whitener, num), loc)
    return Whitened(log_det=spread(log_det, num), whitener=whitener, offset=offset, loc=loc)


def _precision(parts: Whitened) -> Float[Array, "C D D"]:
    return einsum("kli,klj->kij", parts.whitener, parts.whitener)


def _covariance(coords: Float[Array, "C P"], dim: int) -> Float[Array, "C D D"]:
    _, whitener = nw_math.unpack(coords, dim)
    inverse = tril_inverse(whitener)
    return einsum("kij,klj->kil", inverse, inverse)


@spec
class Full:
    """Every component has a covariance matrix of its own: D(D + 1)/2 numbers each."""

    @property
    def structure(self) -> Matrices:
        """Normal-Wishart algebra."""
        return Matrices(tied=False)


@spec
class Tied:
    """All components share one covariance matrix: the same shape in different places."""

    @property
    def structure(self) -> Matrices:
        """Normal-Wishart algebra with one matrix."""
        return Matrices(tied=True)
