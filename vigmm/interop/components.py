"""Sample sites of means and covariances: the component priors, in NumPyro's distributions.

Nothing here calls the engine's densities, so that inference on the exported model is an independent check of
them. Each class samples its sites and, the other way round, reads their values off a position of the engine.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.util import cholesky_of_inverse

from vigmm.core.errors import SpecError
from vigmm.math.linalg import einsum
from vigmm.models import Mixture, Prior
from vigmm.models.covariance import StructurePosition
from vigmm.models.covariance.matrices import Matrices
from vigmm.models.covariance.normal_gamma import NormalGammaParams
from vigmm.models.covariance.normal_wishart import NormalWishartParams
from vigmm.models.covariance.variances import Variances
from vigmm.models.priors import Independent, NormalWishart
from vigmm.models.weights import Gamma

__all__ = ["ComponentSites", "component_sites"]

Parts = tuple[Float[Array, "K D"], Float[Array, "C D D"]]


class ComponentSites(Protocol):
    """The sites of one kind of component prior."""

    def sample(self) -> Parts:
        """Sample the sites; means and lower-triangular roots of the covariances, in standardised units."""
        ...

    def values(self, u: StructurePosition, inner: StructurePosition) -> dict[str, Array]:
        """The sites' values: `u` has the coordinates of the model, `inner` those of the structure."""
        ...


def component_sites(model: Mixture, prior: Prior) -> ComponentSites:
    """The sites of a model's component prior.

    Raises:
        SpecError: for a covariance structure or a prior that has no counterpart here.
    """
    structure, built, hyper = model.structure, prior.components, model.inferred_factor
    if not isinstance(structure, Matrices | Variances):
        got = type(model.covariance).__name__.lower()
        raise SpecError("covariance", "a full matrix or variances, tied or not, for NumPyro", got)
    if isinstance(model.prior, Independent):
        return _Independent(model.prior, structure, prior, model.num_components)
    if isinstance(hyper, Gamma):
        return _Factored(hyper, model, prior)
    if isinstance(structure, Matrices) and isinstance(built, NormalWishartParams):
        return _NormalWishart(structure, built)
    if isinstance(structure, Variances) and isinstance(built, NormalGammaParams):
        return _NormalGamma(structure, built)
    got = type(model.prior).__name__.lower()
    raise SpecError("prior", "'normal_wishart' or 'independent' for NumPyro", got)


@dataclasses.dataclass(frozen=True)
class _Factored:
    """A conjugate prior with s times its expected covariance, s ~ Gamma."""

    hyper: Gamma
    model: Mixture
    prior: Prior

    def _given(self, factor: Array) -> ComponentSites:
        known = dataclasses.replace(self.model, prior=NormalWishart())
        scaled = self.model.structure.scaled(self.prior.components, factor)
        return component_sites(known, dataclasses.replace(self.prior, components=scaled))

    def sample(self) -> Parts:
        return self._given(numpyro.sample("factor", dist.Gamma(self.hyper.shape, self.hyper.rate))).sample()

    def values(self, u: StructurePosition, inner: StructurePosition) -> dict[str, Array]:
        factor = jnp.exp(u.shared[-1])
        return {**self._given(factor).values(inner, inner), "factor": factor}


@dataclasses.dataclass(frozen=True)
class _NormalWishart:
    """Lambda = L L^T ~ Wishart(nu, B^-1), mu | Lambda ~ N(m, (kappa Lambda)^-1); the site is L."""

    structure: Matrices
    prior: NormalWishartParams

    def sample(self) -> Parts:
        prior = self.prior
        rate = einsum("cij,ckj->cik", prior.rate_factor, prior.rate_factor)
        wishart = dist.WishartCholesky(prior.dof, rate_matrix=rate)
        root = numpyro.sample("precision_root", wishart.to_event(1))
        precision = root @ jnp.swapaxes(root, -1, -2)
        strength = prior.mean_precision[:, None, None] * precision
        loc = numpyro.sample("loc", dist.MultivariateNormal(prior.loc, precision_matrix=strength).to_event(1))
        return loc, cholesky_of_inverse(precision)

    def values(self, u: StructurePosition, inner: StructurePosition) -> dict[str, Array]:
        dim = self.prior.loc.shape[-1]
        parts = self.structure.constrain(inner, dim)
        precision = einsum("cij,cik->cjk", parts.whitener, parts.whitener)
        root = jnp.linalg.cholesky(precision)
        return {"precision_root": root, "loc": self.structure.scales(inner, dim).loc}


@dataclasses.dataclass(frozen=True)
class _NormalGamma:
    """lambda ~ Gamma(alpha, beta), mu | lambda ~ N(m, 1/(kappa lambda))."""

    structure: Variances
    prior: NormalGammaParams

    def sample(self) -> Parts:
        prior = self.prior
        precision = numpyro.sample("precision", dist.Gamma(prior.shape, prior.rate).to_event(2))
        strength = prior.mean_precision[:, None] * precision
        scale = jnp.broadcast_to(1.0 / jnp.sqrt(strength), prior.loc.shape)
        loc = numpyro.sample("loc", dist.Normal(prior.loc, scale).to_event(2))
        return loc, _diagonal(1.0 / jnp.sqrt(precision), loc.shape[-1])

    def values(self, u: StructurePosition, inner: StructurePosition) -> dict[str, Array]:
        found = self.structure.scales(inner, self.prior.loc.shape[-1])
        return {"precision": jnp.exp(-2.0 * found.log_sd), "loc": found.loc}


class _Ordered(dist.Distribution):  # type: ignore[misc]
    """K independent draws in ascending order: K! times their joint density, where they are in order."""

    support = constraints.ordered_vector

    def __init__(self, base: Any, size: int) -> None:
        self.base, self.size = base, size
        super().__init__(batch_shape=(), event_shape=(size,))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        return jnp.sort(self.base.sample(key, (*sample_shape, self.size)), axis=-1)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return gammaln(self.size + 1.0) + jnp.sum(self.base.log_prob(value), axis=-1)


@dataclasses.dataclass(frozen=True)
class _Independent:
    """Means, sds (or variances) and correlations from their own distributions, in units of the data."""

    spec: Independent
    structure: Matrices | Variances
    prior: Prior
    num_components: int

    @property
    def _dim(self) -> int:
        return int(self.prior.frame.scale.shape[0])

    @property
    def _shape(self) -> tuple[int, int]:
        """C x E: standard deviations."""
        columns = 1 if getattr(self.structure, "spherical", False) else self._dim
        return 1 if getattr(self.structure, "tied", False) else self.num_components, columns

    @property
    def _unit(self) -> Float[Array, " E"]:
        """The unit of each standard deviation: the geometric mean of all columns' where they share one."""
        scale = self.prior.frame.scale
        return scale if self._shape[1] == self._dim else jnp.exp(jnp.mean(jnp.log(scale), keepdims=True))

    def sample(self) -> Parts:
        spec, built, frame = self.spec, self.prior.components, self.prior.frame
        mean = spec.mean.build(built["mean"])
        if spec.ordered:
            means = numpyro.sample("mean", _Ordered(mean, self.num_components))[:, None]
        else:
            means = numpyro.sample("mean", mean.expand((self.num_components, self._dim)).to_event(2))
        root = _diagonal(self._sds() / self._unit, self._dim)
        if isinstance(self.structure, Matrices) and self._dim > 1:
            correlation = spec.correlation.build(built["correlation"], dimension=self._dim)
            drawn = numpyro.sample("correlation", correlation.expand((self._shape[0],)).to_event(1))
            root = root @ jnp.linalg.cholesky(drawn)
        return (means - frame.center) / frame.scale, root

    def _sds(self) -> Float[Array, "C E"]:
        spec, built = self.spec, self.prior.components
        if not isinstance(spec.sd, int | float | type(None)) or spec.variance is not None:
            name = "sd" if spec.variance is None else "variance"
            part: Any = getattr(spec, name)
            drawn = numpyro.sample(name, part.build(built[name]).expand(self._shape).to_event(2))
            sds = drawn if spec.variance is None else jnp.sqrt(drawn)
        else:
            sds = jnp.broadcast_to(built["sd"]["value"], self._shape)
        if spec.hyper is not None:
            sds = sds * numpyro.sample("factor", spec.hyper.build(built["hyper"]))
        return sds

    def values(self, u: StructurePosition, inner: StructurePosition) -> dict[str, Array]:
        spec, frame = self.spec, self.prior.frame
        found = self.structure.scales(inner, self._dim)
        means = frame.center + frame.scale * found.loc
        made = {"mean": means[:, 0] if spec.ordered else means}
        sd = jnp.exp(found.log_sd) * self._unit
        if spec.hyper is not None:
            made["factor"] = jnp.exp(u.shared[-1])
            sd = sd / made["factor"]
        if spec.variance is not None:
            made["variance"] = sd**2
        elif not isinstance(spec.sd, int | float):
            made["sd"] = sd
        if found.correlation is not None and self._dim > 1:
            made["correlation"] = found.correlation
        return made


def _diagonal(sd: Float[Array, "C E"], dim: int) -> Float[Array, "C D D"]:
    wide = jnp.broadcast_to(sd, (sd.shape[0], dim))
    made: Array = jax.vmap(jnp.diag)(wide)
    return made
