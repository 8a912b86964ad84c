"""Low rank: covariance matrices that are a few common factors and independent noise (factor analysis).

    Sigma_k = F_k F_k^T + diag(psi_k),   F_k of D rows and R columns                                   (1)

D (R + 1) numbers for each component where a full matrix has D (D + 1)/2, and R x R matrices instead of D x D
ones in the likelihood. F_k is lower trapezoidal (F_dj = 0 for j > d), because F Q has the same covariance for
every rotation Q, and coordinates that the model does not have would be free entropy. What is left is the sign
of each column: 2^R copies of one posterior, far apart, of which q takes one.

**Prior.** Under the same hyperparameters mean and noise have the prior that the mean and the diagonal of a
full matrix have; a column of F, in units of the expected standard deviations s_d, is normal with a precision
of its own, which is integrated out:

    mu | Sigma ~ N(m, Sigma / kappa),   psi_d ~ InverseGamma((nu - D + 1)/2, (nu - D - 1)/2 s_d^2)     (2)
    F_dj = s_d f_dj,   f_.j | tau_j ~ N(0, 1/tau_j),   tau_j ~ Gamma(a, b)
    =>  p(f_.j) = Gamma(a + n/2) / (Gamma(a) (2 pi b)^(n/2)) (1 + |f_.j|^2 / (2 b))^-(a + n/2)         (3)

with n = D - j free entries in column j = 0, 1, ...: a multivariate t, peaked at zero and with heavy tails, so
that columns that are not needed shrink and the others are let be (automatic relevance determination).

References:
    Ghahramani and Hinton (1996), The EM algorithm for mixtures of factor analyzers; Geweke and Zhou (1996),
    Review of Financial Studies 9, for the trapezoidal form; Bishop (1999), Variational principal components.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec, state
from vigmm.math.linalg import LOG_2PI, cholesky, einsum, log_diag_sum, tril_inverse
from vigmm.models.covariance.base import Hyper, StructurePosition

__all__ = ["FactorAnalytic", "FactorParts", "FactorPrior", "Factors"]

# Where a run starts: no column has less noise than this share of its variance; at F = 0 exactly no gradient
# moves F, so that entries of an unused column are this many noise sds; factors weaker than this share of the
# strongest start unused; and so many steps find the factors.
_LEAST_NOISE, _LEAST_FACTOR, _WEAK, _STEPS = 0.05, 0.03, 0.1, 100

# Where factors explain a column, its noise is uncertain without limit; but under the prior's exp(-rate / psi)
# wide draws of log psi cost hundreds of nats.
_MOST_SD = 0.3


@state
class FactorParts:
    """K components; with z = root (x - loc), A = diag(root) F and M = I + A^T A, `scores` is M^-1 A^T."""

    log_det: Float[Array, " K"]
    root: Float[Array, "K D"]
    loc: Float[Array, "K D"]
    loadings: Float[Array, "K D R"]
    scores: Float[Array, "K R D"]


@state
class FactorPrior:
    """Hyperparameters of (2) and (3): of means, of noise variances, and of the columns of F."""

    loc: Float[Array, "K D"]
    mean_precision: Float[Array, " K"]
    shape: Float[Array, "K D"]
    rate: Float[Array, "K D"]
    unit: Float[Array, " D"]
    column_shape: Float[Array, ""]
    column_rate: Float[Array, ""]


@spec
class Factors:
    """The algebra of (1): positions are means, log roots of the noise's precisions, and entries of F.

    Args:
        rank: R.
        shape: a of equation (3).
        rate: b of equation (3).
    """

    rank: int = 2
    shape: float = 0.5
    rate: float = 0.005

    def _check(self, dim: int) -> None:
        must = f"< {dim}, the number of columns, or use the covariance 'full'"
        require(self.rank < dim, "model.covariance.rank", must, self.rank)

    def _free(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the free entries of F."""
        rows, columns = np.tril_indices(dim, 0, self.rank)
        return rows, columns

    def position_size(self, dim: int) -> int:
        """Coordinates of one component: D, D, and D R - R (R - 1)/2."""
        self._check(dim)
        return 2 * dim + dim * self.rank - self.rank * (self.rank - 1) // 2

    def shared_size(self, dim: int) -> int:
        """Nothing is shared."""
        return 0

    def _split(
        self, u: StructurePosition, dim: int
    ) -> tuple[Float[Array, "K D"], Float[Array, "K D"], Float[Array, "K D R"]]:
        loc, log_root, free = jnp.split(u.components, [dim, 2 * dim], axis=-1)
        rows, columns = self._free(dim)
        flat = jnp.zeros((loc.shape[0], dim * self.rank), loc.dtype)
        target = flat.at[:, rows * self.rank + columns]
        flat = target.set(free, unique_indices=True, mode="promise_in_bounds")
        return loc, log_root, flat.reshape(-1, dim, self.rank)

    def _join(
        self, loc: Float[Array, "K D"], log_root: Float[Array, "K D"], factors: Float[Array, "K D R"]
    ) -> StructurePosition:
        rows, columns = self._free(loc.shape[-1])
        both = jnp.concatenate([loc, log_root, factors[:, rows, columns]], axis=-1)
        return StructurePosition(components=both, shared=jnp.zeros((0,), loc.dtype))

    # Reading a position -------------------------------------------------------------------

    def constrain(self, u: StructurePosition, dim: int) -> FactorParts:
        """The components at position u: |Sigma| = |M| prod_d psi_d (matrix determinant lemma)."""
        return _parts(*self._split(u, dim))

    def moments(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at position u."""
        loc, log_root, factors = self._split(u, dim)
        noise = jnp.exp(-2.0 * log_root)[:, :, None] * jnp.eye(dim, dtype=loc.dtype)[None]
        return loc, einsum("kdr,ker->kde", factors, factors) + noise

    def square(self, parts: FactorParts, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Woodbury's z^T (I - A M^-1 A^T) z as |z - A t|^2 + |t|^2 with t = M^-1 A^T z: nothing cancels."""
        return _square(parts, parts.root[None] * (x[:, None, :] - parts.loc[None]))

    def prior(self, hyper: Hyper, num_components: int, dtype: Any) -> FactorPrior:
        """Equations (2) and (3) for these hyperparameters."""
        dim = hyper.loc.shape[0]
        self._check(dim)
        variance = np.diag(hyper.covariance)

        def repeat(value: np.ndarray) -> Float[Array, "K *rest"]:
            # Converted on the host: on the device every shape would be a program to compile.
            return jnp.asarray(np.repeat(np.asarray(value, dtype)[None], num_components, axis=0))

        return FactorPrior(
            loc=repeat(hyper.loc),
            mean_precision=repeat(np.asarray(hyper.mean_precision)),
            shape=repeat(np.full(dim, 0.5 * (hyper.dof - dim + 1.0))),
            rate=repeat(0.5 * hyper.rate * variance),
            unit=jnp.asarray(np.asarray(np.sqrt(variance), dtype)),
            column_shape=jnp.asarray(np.asarray(self.shape, dtype)),
            column_rate=jnp.asarray(np.asarray(self.rate, dtype)),
        )

    def scaled(self, prior: FactorPrior, factor: Float[Array, ""]) -> FactorPrior:
        """Noise variances and the squares of the factors' unit times s."""
        return dataclasses.replace(prior, rate=factor * prior.rate, unit=jnp.sqrt(factor) * prior.unit)

    def log_prob(self, prior: FactorPrior, u: StructurePosition) -> Float[Array, ""]:
        """Log density of the position, Jacobian included; 1/psi = rho^2, so d(1/psi) = 2 rho^2 d log rho."""
        dim = prior.loc.shape[-1]
        loc, log_root, factors = self._split(u, dim)
        parts = _parts(loc, log_root, factors)
        noise = 2.0 * prior.shape * log_root - prior.rate * jnp.exp(2.0 * log_root)
        noise = noise + prior.shape * jnp.log(prior.rate) - gammaln(prior.shape) + math.log(2.0)
        square = _square(parts, (parts.root * (loc - prior.loc))[None])[0]
        mean = 0.5 * dim * (jnp.log(prior.mean_precision) - LOG_2PI)
        mean = mean + parts.log_det - 0.5 * prior.mean_precision * square
        # Entries above the diagonal are zero and add nothing to the norms.
        norm = jnp.sum((factors / prior.unit[None, :, None]) ** 2, axis=1)
        half = jnp.asarray(0.5 * (dim - np.arange(self.rank)), norm.dtype)
        power, rate = prior.column_shape + half, prior.column_rate
        column = gammaln(power) - gammaln(prior.column_shape) - half * (LOG_2PI + jnp.log(rate))
        column = column[None] - power[None] * jnp.log1p(norm / (2.0 * rate))
        units = -jnp.sum(jnp.log(prior.unit)[self._free(dim)[0]])
        return jnp.sum(noise) + jnp.sum(mean) + jnp.sum(column) + loc.shape[0] * units

    # Where a run starts -------------------------------------------------------------------

    def near(
        self, loc: Float[Array, "K D"], cov: Float[Array, "K D D"], count: Float[Array, " K"]
    ) -> tuple[StructurePosition, StructurePosition]:
        """The factors of the correlation matrices, and sds after `count` rows with everything else known.

        Fisher information of one row: P_dd for mu_d, with P = Sigma^-1; 2 (psi_d P_dd)^2 for log rho_d; and,
        for F_dj, 1/psi_d where the factors themselves are known.
        """
        sd = jnp.sqrt(jnp.diagonal(cov, axis1=-2, axis2=-1))
        noise, factors = _factors(cov / (sd[:, :, None] * sd[:, None, :]), self.rank, count)
        factors = jnp.tril(sd[:, :, None] * factors)
        log_root = -0.5 * jnp.log(noise) - jnp.log(sd)
        parts = _parts(loc, log_root, factors)
        # The diagonal of diag(rho)^-1 P diag(rho)^-1 = I - A M^-1 A^T.
        share = 1.0 - einsum("kdr,krd->kd", parts.loadings, parts.scores)
        share = jnp.maximum(share, 0.01)
        rows = jnp.sqrt(count)[:, None]
        noise_sd = 1.0 / parts.root
        spread = jnp.broadcast_to((noise_sd / rows)[:, :, None], factors.shape)
        return self._join(loc, log_root, factors), self._join(
            noise_sd / (rows * jnp.sqrt(share)),
            jnp.minimum(math.sqrt(0.5) / (rows * share), _MOST_SD),
            spread,
        )


def _parts(
    loc: Float[Array, "K D"], log_root: Float[Array, "K D"], factors: Float[Array, "K D R"]
) -> FactorParts:
    root = jnp.exp(log_root)
    loadings = root[:, :, None] * factors
    eye = jnp.eye(factors.shape[-1], dtype=loc.dtype)[None]
    factor = cholesky(eye + einsum("kdr,kds->krs", loadings, loadings))
    inverse = tril_inverse(factor)
    scores = einsum("ksr,kst,kdt->krd", inverse, inverse, loadings)
    log_det = jnp.sum(log_root, axis=-1) - log_diag_sum(factor)
    return FactorParts(log_det=log_det, root=root, loc=loc, loadings=loadings, scores=scores)


def _square(parts: FactorParts, z: Float[Array, "B K D"]) -> Float[Array, "B K"]:
    scores = einsum("krd,bkd->bkr", parts.scores, z)
    rest = z - einsum("kdr,bkr->bkd", parts.loadings, scores)
    return jnp.sum(rest**2, axis=-1) + jnp.sum(scores**2, axis=-1)


def _factors(
    correlation: Float[Array, "K D D"], rank: int, count: Float[Array, " K"]
) -> tuple[Float[Array, "K D"], Float[Array, "K D R"]]:
    """Noise variances and trapezoidal factors of correlation matrices, by iterated principal factors.

    From noise psi: the R largest eigenvalues l_j of diag(psi)^-1/2 C diag(psi)^-1/2 and their vectors v_j
    give F = diag(psi)^1/2 v_j (l_j - 1)^1/2, and F gives psi = 1 - diag(F F^T) (Lawley 1940).

    Factors no stronger than n rows of pure noise would show, l_j < (1 + sqrt(D/n))^2 (Marchenko and Pastur
    1967), and those of less than a tenth of the strongest one's excess, are left out: the rotation would
    smear the others over all columns for their sake, and a run finds them more easily than it undoes that.
    """
    dim = correlation.shape[-1]

    def factors(
        noise: Float[Array, "K D"], least: Float[Array, "#K"], weak: float = 0.0
    ) -> Float[Array, "K D R"]:
        sd = jnp.sqrt(noise)
        values, vectors = jnp.linalg.eigh(correlation / (sd[:, :, None] * sd[:, None, :]))
        # In descending order.
        values, vectors = values[:, : -rank - 1 : -1], vectors[:, :, : -rank - 1 : -1]
        excess = jnp.maximum(values - 1.0, 0.0)
        used = (values > least[:, None]) & (excess >= weak * excess[:, :1])
        excess = jnp.where(used, excess, jnp.zeros_like(excess))
        found: Array = sd[:, :, None] * vectors * jnp.sqrt(excess)[:, None, :]
        return found

    def rest(factors: Float[Array, "K D R"]) -> Float[Array, "K D"]:
        return jnp.clip(1.0 - jnp.sum(factors**2, axis=-1), _LEAST_NOISE, 1.0)

    one = jnp.ones((1,), correlation.dtype)
    start = jnp.full(correlation.shape[:-1], 0.5, correlation.dtype)
    noise: Array = lax.fori_loop(0, _STEPS, lambda _, noise: rest(factors(noise, one)), start)
    found = factors(noise, (1.0 + jnp.sqrt(dim / count)) ** 2, _WEAK)
    noise = rest(found)
    unused = jnp.sum(found**2, axis=1, keepdims=True) == 0.0
    return noise, jnp.where(unused, _LEAST_FACTOR * jnp.sqrt(noise)[:, :, None], _trapezoidal(found))


def _trapezoidal(factors: Float[Array, "K D R"]) -> Float[Array, "K D R"]:
    """The rotation that makes the first R rows lower triangular, with a diagonal that is not negative.

    Columns of zeros at the end stay where they are.
    """
    rank = factors.shape[-1]
    turn, upper = jnp.linalg.qr(jnp.swapaxes(factors[:, :rank], -1, -2))
    diagonal = jnp.diagonal(upper, axis1=-2, axis2=-1)
    sign = jnp.where(diagonal < 0, -jnp.ones_like(diagonal), jnp.ones_like(diagonal))
    return einsum("kdr,krs->kds", factors, turn) * sign[:, None, :]


@spec
class FactorAnalytic:
    """Every component has R common factors and a noise variance for each column: Sigma = F F^T + diag(psi).

    For many columns and few directions of dependence. R is an upper bound: columns of F that are not needed
    shrink. There is no conjugate posterior and no prior of correlations. The order of the data's columns
    matters a little: the first R carry the zeros of F, and should not be all noise.

    Args:
        rank: R, smaller than the number of columns.
        shape: a, of a column's precision tau ~ Gamma(a, b); smaller: heavier tails.
        rate: b. The default, Gamma(0.5, 0.005), makes columns multivariate Cauchy of scale sqrt(b/a) = 0.1
            expected standard deviations.
    """

    rank: int = 2
    shape: float = 0.5
    rate: float = 0.005

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", ">= 1", self.rank)
        for name in ("shape", "rate"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, "> 0 and finite", value)

    @property
    def structure(self) -> Factors:
        """The factors' algebra."""
        return Factors(rank=self.rank, shape=self.shape, rate=self.rate)
