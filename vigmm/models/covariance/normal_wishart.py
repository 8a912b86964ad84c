"""The Normal-Wishart distribution of a mean and a precision matrix, in the forms inference needs.

    Lambda ~ Wishart(dof nu, rate B)     E[Lambda] = nu B^-1
    mu | Lambda ~ Normal(loc m, (kappa Lambda)^-1)

`NormalWishartParams` is the standard form, prior and posterior alike, with B as its Cholesky factor.
`Natural` is the additive form: natural parameters up to constant factors, so that
posterior = prior + sufficient statistics. Both are about a fixed centre c_k for each component,
because E[x^2] - E[x]^2 in float32 destroys a tight cluster far from the origin.

The unconstrained position is the means mu and, for each precision matrix, the *coordinates* (log diag W,
strict lower triangle of W), with W the lower-triangular *whitener*, Lambda = W^T W.

The precision matrices have an axis C of their own: C = K where every component has one, C = 1 where all share
one. Everything here broadcasts over it, and sums over components where one matrix serves them all.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, 10.2 and appendix B; Bartlett (1933)
    for the Wishart's triangular factor.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import multigammaln, polygamma
from jaxtyping import Array, Float, Int

from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.math.gamma import log_gamma
from vigmm.math.linalg import LOG_2PI, cholesky, einsum, log_diag_sum, outer, symmetric, tril_inverse
from vigmm.math.special import digamma, gammaln, log_gamma_gap, log_half_step

__all__ = [
    "Moments",
    "Natural",
    "NormalWishartParams",
    "entropy",
    "expected_log_det",
    "from_natural",
    "gaussian_fit",
    "kl_parts",
    "log_jacobian",
    "log_partition",
    "log_prob",
    "moved",
    "pack",
    "pooled",
    "position_moments",
    "regroup",
    "sample",
    "spread",
    "to_natural",
    "unpack",
]


@state
class NormalWishartParams:
    """Standard parameters of K means and C precision matrices, prior and posterior alike."""

    loc: Float[Array, "K D"]
    mean_precision: Float[Array, " K"]
    dof: Float[Array, " C"]
    rate_factor: Float[Array, "C D D"]


@state
class Natural:
    """Additive parameters about `centre`, which is carried along and never updated.

    count = kappa, first = kappa (m - c), second = B + sum_k kappa (m - c)(m - c)^T, dof = nu, the sum over
    the components that share B.
    """

    count: Float[Array, " K"]
    first: Float[Array, "K D"]
    second: Float[Array, "C D D"]
    dof: Float[Array, " C"]
    centre: Float[Array, "K D"]


def pooled(per_component: Float[Array, "K *rest"], matrices: int) -> Float[Array, "C *rest"]:
    """Sum over the components that share a precision matrix: over all of them where C = 1."""
    if matrices == per_component.shape[0]:
        return per_component
    return jnp.sum(per_component, axis=0, keepdims=True)


def spread(per_matrix: Float[Array, "C *rest"], components: int) -> Float[Array, "K *rest"]:
    """The value of each component's precision matrix."""
    return jnp.broadcast_to(per_matrix, (components, *per_matrix.shape[1:]))


def to_natural(nw: NormalWishartParams, centre: Float[Array, "K D"]) -> Natural:
    """Additive form about `centre`."""
    offset = nw.loc - centre
    rate = einsum("kij,klj->kil", nw.rate_factor, nw.rate_factor)
    return Natural(
        count=nw.mean_precision,
        first=nw.mean_precision[:, None] * offset,
        second=rate + pooled(nw.mean_precision[:, None, None] * outer(offset), rate.shape[0]),
        dof=nw.dof,
        centre=centre,
    )


def from_natural(natural: Natural) -> NormalWishartParams:
    """Standard form. Factors C matrices of size D x D; NaN where the rate is not positive definite."""
    offset = natural.first / natural.count[:, None]
    squares = natural.count[:, None, None] * outer(offset)
    rate = natural.second - pooled(squares, natural.second.shape[0])
    return NormalWishartParams(
        loc=natural.centre + offset,
        mean_precision=natural.count,
        dof=natural.dof,
        rate_factor=cholesky(symmetric(rate)),
    )


def moved(stats: Natural, shift: Float[Array, "K D"]) -> Natural:
    """About centres that were shifted: first - n s, and second - first s^T - s first^T + n s s^T."""
    cross = stats.first[:, :, None] * shift[:, None, :]
    change = stats.count[:, None, None] * outer(shift) - cross - jnp.swapaxes(cross, -1, -2)
    return Natural(
        count=stats.count,
        first=stats.first - stats.count[:, None] * shift,
        second=stats.second + pooled(change, stats.second.shape[0]),
        dof=stats.dof,
        centre=stats.centre,
    )


def regroup(stats: Natural, shift: Float[Array, "K D"], group: Int[Array, " K"], num_groups: int) -> Natural:
    """Statistics of groups of components: k joins group[k], its centre moved by shift[k].

    The centres that belong to one group must agree after the shift.
    """
    about = moved(stats, shift)
    join = jax.nn.one_hot(group, num_groups, dtype=shift.dtype, axis=0)
    second, dof = about.second, about.dof
    if second.shape[0] == shift.shape[0]:
        second, dof = einsum("gk,kij->gij", join, second), einsum("gk,k->g", join, dof)
    return Natural(
        count=einsum("gk,k->g", join, about.count),
        first=einsum("gk,kd->gd", join, about.first),
        second=second,
        dof=dof,
        centre=jnp.zeros((num_groups, shift.shape[1]), shift.dtype),
    )


def log_partition(natural: Natural) -> Float[Array, ""]:
    """Log of the integral of exp(natural parameters . sufficient statistics) over means and precisions.

    sum_k -D/2 log kappa_k + sum_c [nu D/2 log 2 - nu/2 log|B| + log Gamma_D(nu/2)], up to a constant for each
    mean. Posterior less prior, less n D/2 log 2 pi, is the log evidence of the rows that were counted.
    """
    nw = from_natural(natural)
    dim = nw.loc.shape[-1]
    return jnp.sum(_log_normaliser(nw)) - 0.5 * dim * jnp.sum(jnp.log(nw.mean_precision))


def _half_dofs(dof: Float[Array, " C"], dim: int) -> Float[Array, "C D"]:
    """(nu - D + i) / 2 for i = 1..D: shapes of the Gamma variables on the whitener's diagonal."""
    return 0.5 * (dof[:, None] - jnp.arange(dim - 1, -1, -1, dtype=dof.dtype)[None])


def expected_log_det(nw: NormalWishartParams) -> Float[Array, " C"]:
    """E[log |Lambda|] = sum_i digamma((nu + 1 - i)/2) + D log 2 - log |B|."""
    dim = nw.loc.shape[-1]
    psi = jnp.sum(digamma(_half_dofs(nw.dof, dim)), axis=-1)
    return psi + dim * math.log(2.0) - 2.0 * log_diag_sum(nw.rate_factor)


def kl_parts(q: NormalWishartParams, p: NormalWishartParams) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """KL(q || p) of means given precisions, on average, and of precisions; no terms of order N cancel.

    Wishart part, with h_i and p_i the half degrees of freedom of q and p and g = `log_gamma_gap`:
    sum_i [g(h_i) - p_i digamma(h_i) + log Gamma(p_i)] - D(D-1)/4 + nu_q tr(B_p B_q^-1)/2
    + nu_p (log|B_q| - log|B_p|)/2.
    Normal part: D/2 (kappa_p/kappa_q - 1 - log(kappa_p/kappa_q)) + kappa_p nu_q |L_q^-1 (m_q - m_p)|^2 / 2.
    """
    num, dim = q.loc.shape
    inverse = tril_inverse(q.rate_factor)
    half_q, half_p = _half_dofs(q.dof, dim), _half_dofs(p.dof, dim)
    psi = digamma(half_q)
    gammas = jnp.sum(log_gamma_gap(half_q, psi) - half_p * psi + gammaln(half_p), axis=-1)
    trace = jnp.sum(einsum("kij,kjl->kil", inverse, p.rate_factor) ** 2, axis=(-2, -1))
    log_det = 2.0 * (log_diag_sum(q.rate_factor) - log_diag_sum(p.rate_factor))
    wishart = gammas - dim * (dim - 1) / 4 + 0.5 * q.dof * trace + 0.5 * p.dof * log_det
    ratio = p.mean_precision / q.mean_precision
    shift = einsum("kij,kj->ki", spread(inverse, num), q.loc - p.loc)
    normal = 0.5 * dim * (ratio - 1.0 - jnp.log(ratio))
    normal = normal + 0.5 * p.mean_precision * spread(q.dof, num) * jnp.sum(shift**2, axis=-1)
    return jnp.sum(normal), jnp.sum(wishart)


def unpack(coords: Float[Array, "C P"], dim: int) -> tuple[Float[Array, "C D"], Float[Array, "C D D"]]:
    """(log diag W, W) from D(D + 1)/2 coordinates."""
    log_diag, lower = coords[:, :dim], coords[:, dim:]
    rows, columns = np.tril_indices(dim, -1)
    target = np.concatenate([rows * dim + columns, np.arange(dim) * (dim + 1)])
    values = jnp.concatenate([lower, jnp.exp(log_diag)], axis=-1)
    # One scatter: putting rows together from slices compiles 4 to 20 times longer and runs no faster.
    flat = jnp.zeros((coords.shape[0], dim * dim), coords.dtype).at[:, target]
    whitener = flat.set(values, unique_indices=True, mode="promise_in_bounds")
    return log_diag, whitener.reshape(-1, dim, dim)


def pack(log_diag: Float[Array, "C D"], lower: Float[Array, "C D D"]) -> Float[Array, "C P"]:
    """The inverse layout of `unpack`: only the strict lower triangle of `lower` is read."""
    rows, columns = np.tril_indices(log_diag.shape[-1], -1)
    return jnp.concatenate([log_diag, lower[:, rows, columns]], axis=-1)


def log_prob(
    nw: NormalWishartParams, loc: Float[Array, "K D"], coords: Float[Array, "C P"]
) -> Float[Array, ""]:
    """Log density of the unconstrained position, Jacobian included.

    The volume element is |d Lambda / d W| = 2^D prod_i W_ii^i for Lambda = W^T W with W lower
    triangular (Muirhead 1982, theorem 2.1.9), and another W_ii for the logarithm of the diagonal.
    """
    num, dim = nw.loc.shape
    log_diag, whitener = unpack(coords, dim)
    log_det = jnp.sum(log_diag, axis=-1)
    shift = einsum("kij,kj->ki", spread(whitener, num), loc - nw.loc)
    normal = (
        0.5 * dim * (jnp.log(nw.mean_precision) - LOG_2PI)
        + spread(log_det, num)
        - 0.5 * nw.mean_precision * jnp.sum(shift**2, axis=-1)
    )
    scaled = einsum("kij,kjl->kil", whitener, nw.rate_factor)
    wishart = (nw.dof - dim - 1.0) * log_det - 0.5 * jnp.sum(scaled**2, axis=(-2, -1)) - _log_normaliser(nw)
    return jnp.sum(normal) + jnp.sum(wishart + log_jacobian(log_diag))


def _log_normaliser(nw: NormalWishartParams) -> Float[Array, " C"]:
    """Log Z of the Wishart: nu D/2 log 2 - nu/2 log |B| + log Gamma_D(nu/2)."""
    dim = nw.loc.shape[-1]
    powers = 0.5 * nw.dof * dim * math.log(2.0) - nw.dof * log_diag_sum(nw.rate_factor)
    return powers + multigammaln(0.5 * nw.dof, dim)


def log_jacobian(log_diag: Float[Array, "C D"]) -> Float[Array, " C"]:
    """Log |d Lambda / d(log diag W, lower W)| = D log 2 + sum_i (i + 1) log W_ii."""
    dim = log_diag.shape[-1]
    power = jnp.arange(2, dim + 2, dtype=log_diag.dtype)
    return dim * math.log(2.0) + einsum("kd,d->k", log_diag, power)


def _expected_log_diag(nw: NormalWishartParams) -> Float[Array, "C D"]:
    """E[log W_ii] = (digamma(h_i) + log 2)/2 - log L_ii."""
    half = _half_dofs(nw.dof, nw.loc.shape[-1])
    diag = jnp.diagonal(nw.rate_factor, axis1=-2, axis2=-1)
    return 0.5 * (digamma(half) + math.log(2.0)) - jnp.log(diag)


def entropy(nw: NormalWishartParams) -> Float[Array, ""]:
    """-E[log_prob] over positions, without cancelling terms of order N.

    E|W(mu - m)|^2 = D/kappa and E tr(B Lambda) = nu D; with h_i the half degrees of freedom and g =
    `log_gamma_gap`, the Wishart's part of E[log_prob] is sum_i [g(h_i) - (i + 1) digamma(h_i)/2]
    - D(D-1)/4 (1 + log pi) - D(D+1)/2 log 2 + (D + 1) log|L|.
    """
    num, dim = nw.loc.shape
    half = _half_dofs(nw.dof, dim)
    index = jnp.arange(1, dim + 1, dtype=half.dtype)[None]
    log_diag = _expected_log_diag(nw)
    normal = 0.5 * dim * (jnp.log(nw.mean_precision) - LOG_2PI - 1.0) + spread(jnp.sum(log_diag, -1), num)
    constant = 0.25 * dim * (dim - 1) * (1.0 + math.log(math.pi)) + 0.5 * dim * (dim + 1) * math.log(2.0)
    psi = digamma(half)
    gammas = jnp.sum(log_gamma_gap(half, psi) - 0.5 * (index + 1.0) * psi, axis=-1)
    wishart = gammas - constant + (dim + 1.0) * log_diag_sum(nw.rate_factor)
    return -(jnp.sum(normal) + jnp.sum(wishart + log_jacobian(log_diag)))


@state
class Moments:
    """Exact means and standard deviations of means and coordinates."""

    loc: Float[Array, "K D"]
    loc_sd: Float[Array, "K D"]
    coords: Float[Array, "C P"]
    coords_sd: Float[Array, "C P"]


def position_moments(nw: NormalWishartParams) -> Moments:
    """Exact means and standard deviations of every coordinate of the position.

    W = A L^-1 with A lower triangular, A_ii^2 ~ chi^2(nu - D + i), A_ij ~ N(0, 1) (Bartlett), and mu is a
    Student t with nu - D + 1 degrees of freedom.
    """
    num, dim = nw.loc.shape
    inverse = tril_inverse(nw.rate_factor)
    half = _half_dofs(nw.dof, dim)
    log_diag_sd = 0.5 * jnp.sqrt(polygamma(1, half))
    # E[A_ii] = sqrt(2h) exp(s) and Var[A_ii] = 2h - E^2 = -2h (exp(2s) - 1), without cancellation.
    half_step = log_half_step(half)
    expected_diag = jnp.sqrt(2.0 * half) * jnp.exp(half_step)
    variance_diag = -2.0 * half * jnp.expm1(2.0 * half_step)
    squares = inverse**2
    # sum over the columns l of A with j <= l < i: what the rows of L^-1 above row i add up to.
    above = jnp.cumsum(squares, axis=-2) - squares
    lower_sd = jnp.sqrt(variance_diag[:, :, None] * squares + above)
    variance = jnp.diagonal(einsum("kij,klj->kil", nw.rate_factor, nw.rate_factor), axis1=-2, axis2=-1)
    scale = nw.mean_precision * spread(jnp.maximum(nw.dof - dim - 1.0, 1.0), num)
    return Moments(
        loc=nw.loc,
        loc_sd=jnp.sqrt(spread(variance, num) / scale[:, None]),
        coords=pack(_expected_log_diag(nw), expected_diag[:, :, None] * inverse),
        coords_sd=pack(log_diag_sd, lower_sd),
    )


def gaussian_fit(nw: NormalWishartParams) -> Moments:
    """Mean and sd of independent Gaussians over the position, close in KL(Gaussians || posterior).

    Means are the posterior's. A factorised q that minimises that divergence has *conditional* sds, from the
    posterior's expected curvature: 1/sqrt(kappa nu (B^-1)_ii) for mu_i, 1/sqrt(B_jj) for W_ij, and for
    log W_ii the marginal sd times sqrt(2/(1 + B_ii/L_ii^2)). Marginal sds would leave the ridge that
    correlated columns share.
    """
    found = position_moments(nw)
    num, dim = nw.loc.shape
    inverse = tril_inverse(nw.rate_factor)
    expected_diag = nw.dof[:, None] * jnp.sum(inverse**2, axis=-2)
    expected_precision = nw.mean_precision[:, None] * spread(expected_diag, num)
    rate_diag = jnp.sum(nw.rate_factor**2, axis=-1)
    factor_diag = jnp.diagonal(nw.rate_factor, axis1=-2, axis2=-1)
    log_diag_sd = found.coords_sd[:, :dim] * jnp.sqrt(2.0 / (1.0 + rate_diag / factor_diag**2))
    lower_sd = jnp.broadcast_to(1.0 / jnp.sqrt(rate_diag)[:, None, :], nw.rate_factor.shape)
    return Moments(
        loc=found.loc,
        loc_sd=1.0 / jnp.sqrt(expected_precision),
        coords=found.coords,
        coords_sd=pack(log_diag_sd, lower_sd),
    )


def sample(nw: NormalWishartParams, key: PRNGKey) -> tuple[Float[Array, "K D"], Float[Array, "C P"]]:
    """One draw of means and coordinates, by Bartlett's decomposition; differentiable."""
    num, dim = nw.loc.shape
    matrices = nw.dof.shape[0]
    key_diag, key_normal = jax.random.split(key)
    dtype = nw.loc.dtype
    log_a = 0.5 * (log_gamma(key_diag, _half_dofs(nw.dof, dim)) + math.log(2.0))
    # D normals for each mean and D x D for each matrix, of which the strict lower triangle is used.
    normal = jax.random.normal(key_normal, (num + matrices * dim, dim), dtype)
    epsilon = normal[:num]
    noise = jnp.tril(normal[num:].reshape(matrices, dim, dim), -1)
    bartlett = noise + jnp.exp(log_a)[:, :, None] * jnp.eye(dim, dtype=dtype)[None]
    inverse = tril_inverse(nw.rate_factor)
    whitener = einsum("kij,kjl->kil", bartlett, inverse)
    log_diag = log_a - jnp.log(jnp.diagonal(nw.rate_factor, axis1=-2, axis2=-1))
    # mu - m has covariance (kappa W^T W)^-1, so W (mu - m) sqrt(kappa) is standard normal.
    shift = einsum("kij,kj->ki", spread(tril_inverse(whitener), num), epsilon)
    return nw.loc + shift / jnp.sqrt(nw.mean_precision)[:, None], pack(log_diag, whitener)
