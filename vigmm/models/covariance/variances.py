"""Variances without correlations: `Diag`, `TiedDiag`, `Spherical` and `TiedSpherical`.

One precision for each column (diag) or for all columns (spherical), of each component or of all components
(tied): four structures, one algebra of independent Normal-Gamma distributions.

Under the same hyperparameters a variance has the prior that the diagonal of a full matrix has: the marginal
of an inverse Wishart, Sigma_dd ~ InverseGamma((nu - D + 1)/2, B_dd / 2).
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
from vigmm.math.special import digamma, log_gamma_ratio
from vigmm.models.covariance import fisher
from vigmm.models.covariance import normal_gamma as ng_math
from vigmm.models.covariance.base import Hyper, Scales, StructurePosition
from vigmm.models.covariance.normal_gamma import Natural, NormalGammaParams, gather, share

__all__ = ["Diag", "Scaled", "Spherical", "TiedDiag", "TiedSpherical", "Variances"]


@state
class Scaled:
    """K components with squared distance sum_d (rho_kd (x_d - loc_kd))^2."""

    log_det: Float[Array, " K"]
    root: Float[Array, "K D"]
    loc: Float[Array, "K D"]


@spec
class Variances:
    """Precisions with a Normal-Gamma prior or posterior.

    Args:
        tied: all components share their precisions.
        spherical: all columns share one precision.
    """

    tied: bool = False
    spherical: bool = False

    def _per_component(self, dim: int) -> int:
        return 1 if self.spherical else dim

    def position_size(self, dim: int) -> int:
        """Coordinates of one component: D, and its own precisions."""
        return dim + (0 if self.tied else self._per_component(dim))

    def shared_size(self, dim: int) -> int:
        """Coordinates of the precisions that all share."""
        return self._per_component(dim) if self.tied else 0

    def _split(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "C E"]]:
        loc, own = u.components[:, :dim], u.components[:, dim:]
        return loc, u.shared[None] if self.tied else own

    def _join(self, loc: Float[Array, "K D"], log_root: Float[Array, "C E"]) -> StructurePosition:
        if self.tied:
            return StructurePosition(components=loc, shared=log_root[0])
        both = jnp.concatenate([loc, log_root], axis=-1)
        return StructurePosition(components=both, shared=jnp.zeros((0,), loc.dtype))

    # Reading a position -------------------------------------------------------------------

    def constrain(self, u: StructurePosition, dim: int) -> Scaled:
        """The components at position u."""
        loc, log_root = self._split(u, dim)
        log_root = share(log_root, loc)
        return Scaled(log_det=jnp.sum(log_root, axis=-1), root=jnp.exp(log_root), loc=loc)

    def moments(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at position u."""
        loc, log_root = self._split(u, dim)
        variance = jnp.exp(-2.0 * share(log_root, loc))
        return loc, variance[:, :, None] * jnp.eye(dim, dtype=loc.dtype)[None]

    def marginal(self, u: StructurePosition, dim: int, seen: Float[Array, " D"]) -> Scaled:
        """The components of the columns that are seen."""
        whole = self.constrain(u, dim)
        log_det = jnp.sum(jnp.log(whole.root) * seen[None], axis=-1)
        return Scaled(log_det=log_det, root=whole.root * seen[None], loc=whole.loc)

    def scales(self, u: StructurePosition, dim: int) -> Scales:
        """Means and standard deviations: d sd / d log rho = -sd."""
        loc, log_root = self._split(u, dim)
        return Scales(loc=loc, log_sd=-log_root, correlation=None, log_jacobian=-jnp.sum(log_root))

    def square(self, parts: Scaled, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Squared distances, from differences: nothing cancels for a tight component far from the origin."""
        white = parts.root[:, :, None] * (x.T[None] - parts.loc[:, :, None])
        return jnp.sum(white**2, axis=1).T

    @property
    def features(self) -> Kind:
        """Squares of columns; their sum where all columns share a precision."""
        return "square" if self.spherical else "squares"

    @property
    def sloped(self) -> bool:
        """Yes: one product in place of differences of every row from every mean."""
        return True

    def slopes(self, parts: Scaled) -> Float[Array, "K E"]:
        """-lambda / 2 for the squares, lambda mu for the columns."""
        precision = parts.root**2
        squares = precision[:, :1] if self.spherical else precision
        return jnp.concatenate([-0.5 * squares, precision * parts.loc], axis=-1)

    def roughness(self, parts: Scaled, power: Float[Array, " D"]) -> Float[Array, " K"]:
        """Eps (sum_d lambda_d^2 v_d^2)^(1/2), with v = power + mu^2."""
        v = power[None] + parts.loc**2
        eps = float(np.finfo(v.dtype).eps)
        return eps * jnp.sqrt(jnp.sum((parts.root**2 * v) ** 2, axis=-1))

    def collect(self, moments: Float[Array, "K F"], centre: Float[Array, "K D"]) -> Natural:
        """Statistics about the origin, moved to `centre`."""
        num, dim = centre.shape
        squares, first, count = moments[:, : -dim - 1], moments[:, -dim - 1 : -1], moments[:, -1]
        columns = jnp.broadcast_to(count[:, None], centre.shape)
        like = jnp.zeros((1 if self.tied else num, self._per_component(dim)), moments.dtype)
        second = jnp.sum(squares, axis=0, keepdims=True) if self.tied else squares
        about = Natural(
            count=count,
            first=first,
            second=0.5 * second,
            shape=0.5 * gather(columns, like),
            centre=jnp.zeros_like(centre),
        )
        return ng_math.moved(about, centre)

    def prior(self, hyper: Hyper, num_components: int, dtype: Any) -> NormalGammaParams:
        """Normal-Gamma with E[1/lambda] = the diagonal of the expected covariance, or its mean."""
        dim = hyper.loc.shape[0]
        variance = np.diag(hyper.covariance)
        variance = np.mean(variance, keepdims=True) if self.spherical else variance
        rows = 1 if self.tied else num_components
        shape = np.full((rows, len(variance)), 0.5 * (hyper.dof - dim + 1.0))
        rate = np.repeat(0.5 * hyper.rate * variance[None], rows, axis=0)

        def one(value: Any) -> Array:
            # Converted on the host: on the device every shape would be a program to compile.
            return jnp.asarray(np.asarray(value, dtype))

        return NormalGammaParams(
            loc=one(np.repeat(hyper.loc[None], num_components, axis=0)),
            mean_precision=one(np.full(num_components, hyper.mean_precision)),
            shape=one(shape),
            rate=one(rate),
        )

    def scaled(self, prior: NormalGammaParams, factor: Float[Array, ""]) -> NormalGammaParams:
        """The prior with s beta in the place of beta."""
        return dataclasses.replace(prior, rate=factor * prior.rate)

    def scale_terms(
        self, q: NormalGammaParams, prior: NormalGammaParams
    ) -> tuple[Float[Array, " G"], Float[Array, " G"]]:
        """(s beta)^alpha exp(-s beta lambda): n = sum alpha and T = sum beta alpha_q / beta_q, by column."""
        return jnp.sum(prior.shape, axis=-1), jnp.sum(prior.rate * q.shape / q.rate, axis=-1)

    def log_prob(self, prior: NormalGammaParams, u: StructurePosition) -> Float[Array, ""]:
        """Log density of the position, Jacobian included."""
        return ng_math.log_prob(prior, *self._split(u, prior.loc.shape[-1]))

    # Conjugate algebra --------------------------------------------------------------------

    def natural(self, prior: NormalGammaParams, centre: Float[Array, "K D"]) -> Natural:
        """The prior in additive form about `centre`."""
        return ng_math.to_natural(prior, centre)

    def standard(self, natural: Natural) -> NormalGammaParams:
        """The standard form of additive parameters."""
        return ng_math.from_natural(natural)

    def stats(
        self, x: Float[Array, "B D"], weight: Float[Array, "B K"], centre: Float[Array, "K D"]
    ) -> Natural:
        """Weighted sufficient statistics about `centre`, shaped like the additive parameters."""
        shifted = x[:, None, :] - centre[None]
        scaled = weight[:, :, None] * shifted
        count = jnp.sum(weight, axis=0)
        num, dim = centre.shape
        like = jnp.zeros((1 if self.tied else num, self._per_component(dim)), x.dtype)
        return Natural(
            count=count,
            first=jnp.sum(scaled, axis=0),
            second=0.5 * gather(jnp.sum(scaled * shifted, axis=0), like),
            shape=0.5 * gather(jnp.broadcast_to(count[:, None], centre.shape), like),
            centre=jnp.zeros_like(centre),
        )

    def order(self, natural: Natural, index: Array) -> Natural:
        """The components in another order; shared precisions stay."""
        own = slice(None) if self.tied else index
        return Natural(
            count=natural.count[index],
            first=natural.first[index],
            second=natural.second[own],
            shape=natural.shape[own],
            centre=natural.centre[index],
        )

    def regroup(
        self, stats: Natural, shift: Float[Array, "K D"], group: Int[Array, " K"], num_groups: int
    ) -> Natural:
        """Statistics of groups of components, about centres that were shifted."""
        return ng_math.regroup(stats, shift, group, num_groups)

    def log_partition(self, natural: Natural) -> Float[Array, ""]:
        """Log normaliser of additive parameters, summed over components."""
        return ng_math.log_partition(natural)

    def expected(self, q: NormalGammaParams) -> Scaled:
        """E_q[log N(x | mu_k, lambda_k)] as `Scaled` components.

        = sum_d (digamma(alpha) - log beta)/2 - D/2 log 2 pi - D/(2 kappa) - sum_d alpha/beta (x - m)^2 / 2.
        """
        log_root = 0.5 * share(digamma(q.shape) - jnp.log(q.rate), q.loc)
        log_det = jnp.sum(log_root, axis=-1) - 0.5 * q.loc.shape[-1] / q.mean_precision
        return Scaled(log_det=log_det, root=jnp.sqrt(share(q.shape / q.rate, q.loc)), loc=q.loc)

    def kl_parts(
        self, q: NormalGammaParams, prior: NormalGammaParams
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """KL(q || prior) of means given covariances, and of covariances."""
        return ng_math.kl_parts(q, prior)

    def entropy(self, q: NormalGammaParams) -> Float[Array, ""]:
        """Entropy of the position under q."""
        return ng_math.entropy(q)

    def log_predictive(self, q: NormalGammaParams, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Posterior predictive: one Student t for every precision, over the n columns that share it.

        Gamma(a + n/2)/Gamma(a) (s/(2 pi b))^(n/2) (1 + s |x - m|^2/(2 b))^-(a + n/2), s = kappa/(kappa + 1).
        """
        num, dim = q.loc.shape
        columns = dim // q.shape.shape[1]
        shape = jnp.broadcast_to(q.shape, (num, q.shape.shape[1]))
        rate = jnp.broadcast_to(q.rate, shape.shape)
        shrink = (q.mean_precision / (q.mean_precision + 1.0))[:, None]
        square = (x[:, None, :] - q.loc[None]) ** 2
        if self.spherical:
            square = jnp.sum(square, axis=-1, keepdims=True)
        log_scale = jnp.log(shrink) - jnp.log(2.0 * jnp.pi * rate)
        log_scale = log_gamma_ratio(shape, columns) + 0.5 * columns * log_scale
        tail = (shape + 0.5 * columns)[None] * jnp.log1p((0.5 * shrink / rate)[None] * square)
        return jnp.sum(log_scale[None] - tail, axis=-1)

    def gaussian_fit(self, q: NormalGammaParams) -> tuple[StructurePosition, StructurePosition]:
        """Mean and sd of independent Gaussians over the position that are close to q."""
        log_root, log_root_sd = ng_math.log_root_moments(q)
        precision = q.mean_precision[:, None] * share(q.shape / q.rate, q.loc)
        return self._join(q.loc, log_root), self._join(1.0 / jnp.sqrt(precision), log_root_sd)

    def sample(self, q: NormalGammaParams, key: PRNGKey) -> StructurePosition:
        """One draw of the position from q."""
        return self._join(*ng_math.sample(q, key))

    def natural_gradient(self, natural: Natural, grads: Natural) -> Natural:
        """The inverse Fisher information times a gradient."""
        return fisher.normal_gamma(natural, grads)


@spec
class Diag:
    """Every component has a variance for each column."""

    @property
    def structure(self) -> Variances:
        """Normal-Gamma algebra."""
        return Variances()


@spec
class TiedDiag:
    """All components share one variance for each column."""

    @property
    def structure(self) -> Variances:
        """Normal-Gamma algebra."""
        return Variances(tied=True)


@spec
class Spherical:
    """Every component has one variance: balls of different sizes."""

    @property
    def structure(self) -> Variances:
        """Normal-Gamma algebra."""
        return Variances(spherical=True)


@spec
class TiedSpherical:
    """One variance for all components and columns: a k-means that knows its uncertainty."""

    @property
    def structure(self) -> Variances:
        """Normal-Gamma algebra."""
        return Variances(tied=True, spherical=True)
