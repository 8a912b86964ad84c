"""Independent priors of means, standard deviations and correlations, each any NumPyro distribution.

    mu_kd ~ mean,   sd_kd ~ sd (or sd_kd^2 ~ variance),   R_k ~ LKJ

in the units of the data. The structure tells standard deviations and correlations at a position and the
volume of that change of variables; this file adds up the densities.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec
from vigmm.models.covariance import Separable, Structure, StructurePosition
from vigmm.models.priors.base import DataScale, Frame
from vigmm.models.priors.distribution import Distribution, distribution

__all__ = ["Independent"]


@spec
class Independent:
    """Means, standard deviations and correlations independent of each other and across components.

    Everything is in the units of the data and the same for all columns. Where all columns share one standard
    deviation (spherical), it is that of a column whose scale is the geometric mean of the columns' scales.

    Args:
        mean: distribution of every component mean.
        sd: distribution of every standard deviation, or a number: known, and not inferred.
        variance: distribution of every variance, in place of `sd`.
        correlation: distribution of the correlation matrix (LKJ), for structures that have one.
        hyper: distribution of a common factor s of all standard deviations: sd_kd / s ~ `sd`.
        ordered: the components are in order of their means; for one column. The density is K! times that of
            unordered means, so that it integrates to one.
    """

    mean: Distribution = dataclasses.field(
        default_factory=lambda: distribution("Normal", loc=0.0, scale=10.0)
    )
    sd: Distribution | float | None = None
    variance: Distribution | None = None
    correlation: Distribution = dataclasses.field(
        default_factory=lambda: distribution("LKJ", concentration=1.0)
    )
    hyper: Distribution | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.sd is None and self.variance is None:
            object.__setattr__(self, "sd", distribution("HalfNormal", scale=2.0))
        require(
            self.sd is None or self.variance is None, "variance", "left out where sd is given", self.variance
        )
        self.mean.check("mean", "real")
        if isinstance(self.sd, Distribution):
            self.sd.check("sd", "positive")
        elif self.sd is not None:
            require(0 < self.sd < math.inf, "sd", "> 0 and finite, or a distribution", self.sd)
            require(self.hyper is None, "hyper", "left out where sd is known", self.hyper)
        if self.variance is not None:
            self.variance.check("variance", "positive")
        if self.hyper is not None:
            self.hyper.check("hyper", "positive")
        self.correlation.check("correlation", "correlation", dimension=2)

    @property
    def _known(self) -> float | None:
        return self.sd if isinstance(self.sd, int | float) else None

    def refusal(self, structure: Structure) -> str | None:
        """Independent means and scales are not conjugate."""
        return "independent priors of means and scales are not conjugate"

    def check(self, structure: Structure) -> None:
        """A known sd needs a structure of sds only; a prior of scales needs one that tells them."""
        name = type(structure).__name__.lower()
        require(hasattr(structure, "scales"), "prior", "'normal_wishart' for this covariance", "independent")
        known = self._known is None or hasattr(structure, "spherical")
        require(known, "covariance", "'diag' or 'spherical', tied or not, where sd is known", name)

    def position_size(self, structure: Structure, dim: int) -> int:
        """The structure's own, or D where the sds are known."""
        if self.ordered:
            require(dim == 1, "ordered", "false for data of more than one column", dim)
        return structure.position_size(dim) if self._known is None else dim

    def shared_size(self, structure: Structure, dim: int) -> int:
        """The structure's own, and the log of the common factor."""
        own = structure.shared_size(dim) if self._known is None else 0
        return own + (self.hyper is not None)

    def build(
        self, data: DataScale, *, structure: Structure, num_components: int, most: int, dtype: Any
    ) -> Any:
        """The distributions' parameters, as they are: densities are evaluated in the units of the data."""
        self.check(structure)
        self.position_size(structure, data.mean.shape[0])
        parts = {
            "mean": self.mean,
            "sd": self.sd,
            "variance": self.variance,
            "correlation": self.correlation,
            "hyper": self.hyper,
        }
        built = {name: part.arrays(dtype) for name, part in parts.items() if isinstance(part, Distribution)}
        if self._known is not None:
            built["sd"] = {"value": jnp.asarray(self._known, dtype)}
        return built

    # Coordinates --------------------------------------------------------------------------

    def expand(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> StructurePosition:
        """Ordered means added up, known sds filled in, the common factor taken off."""
        components, shared = u.components, u.shared
        if self.ordered:
            steps = jnp.concatenate([components[:1, :1], jnp.exp(components[1:, :1])])
            components = jnp.concatenate([jnp.cumsum(steps, axis=0), components[:, 1:]], axis=1)
        if self.hyper is not None:
            shared = shared[:-1]
        if self._known is not None:
            dim, num = frame.scale.shape[0], components.shape[0]
            # The roots of the precisions in standardised units.
            log_root = _log_scale(frame, getattr(structure, "spherical", False)) - jnp.log(
                built["sd"]["value"]
            )
            if structure.shared_size(dim):
                shared = log_root
            else:
                own = jnp.broadcast_to(log_root[None], (num, log_root.shape[0]))
                components = jnp.concatenate([components, own], axis=1)
        return StructurePosition(components=components, shared=shared)

    def rank(self, u: StructurePosition) -> Array | None:
        """By their means, where those are ordered."""
        return jnp.argsort(u.components[:, 0]) if self.ordered else None

    def contract(self, structure: Structure, u: StructurePosition) -> StructurePosition:
        """The inverse of `expand`, of components in order; a common factor starts at one."""
        components, shared = u.components, u.shared
        if self.ordered:
            gaps = jnp.log(jnp.maximum(jnp.diff(components[:, 0]), 1e-3))
            loc = jnp.concatenate([components[:1, 0], gaps])[:, None]
            components = jnp.concatenate([loc, components[:, 1:]], axis=1)
        return self._trimmed(structure, components, shared, jnp.zeros((1,), shared.dtype))

    def contract_scale(
        self, structure: Structure, u: StructurePosition, sd: StructurePosition
    ) -> StructurePosition:
        """By the delta method for the gaps of ordered means."""
        components, shared = sd.components, sd.shared
        if self.ordered:
            gap = jnp.maximum(jnp.diff(u.components[:, 0]), 1e-3)
            spread = jnp.sqrt(components[1:, 0] ** 2 + components[:-1, 0] ** 2) / gap
            first = jnp.concatenate([components[:1, 0], jnp.minimum(spread, 1.0)])[:, None]
            components = jnp.concatenate([first, components[:, 1:]], axis=1)
        return self._trimmed(structure, components, shared, jnp.full((1,), 0.3, shared.dtype))

    def _trimmed(
        self, structure: Structure, components: Array, shared: Array, factor: Array
    ) -> StructurePosition:
        if self._known is not None:
            components, shared = components[:, : _means(structure, components.shape[1])], shared[:0]
        if self.hyper is not None:
            shared = jnp.concatenate([shared, factor])
        return StructurePosition(components=components, shared=shared)

    # Density ------------------------------------------------------------------------------

    def log_prob(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """Sum of the parts' log densities and of the log volumes of all changes of variables."""
        dim = frame.scale.shape[0]
        scales = cast(Separable, structure).scales(self.expand(structure, built, frame, u), dim)
        total = self._log_means(built, frame, u, scales.loc)
        if self._known is not None:
            return total
        log_unit = _log_scale(frame, scales.log_sd.shape[1] != dim)
        log_sd = scales.log_sd + log_unit[None]
        if self.hyper is not None:
            factor = u.shared[-1]
            total = total + self.hyper.log_prob(built["hyper"], jnp.exp(factor)) + factor
            log_sd = log_sd - factor
            total = total - log_sd.size * factor
        total = total + self._log_scales(built, log_sd) + log_sd.shape[0] * jnp.sum(log_unit)
        if scales.correlation is not None and dim > 1:
            log_density = self.correlation.log_prob(built["correlation"], scales.correlation, dimension=dim)
            total = total + jnp.sum(log_density)
        return total + scales.log_jacobian

    def log_means(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """The means' own distribution."""
        expanded = self.expand(structure, built, frame, u)
        loc = cast(Separable, structure).scales(expanded, frame.scale.shape[0]).loc
        return self._log_means(built, frame, u, loc)

    def _log_means(
        self, built: Any, frame: Frame, u: StructurePosition, unit: Float[Array, "K D"]
    ) -> Float[Array, ""]:
        """Log density of means that are `unit` in standardised units, at coordinates u."""
        num = unit.shape[0]
        loc = frame.center[None] + frame.scale[None] * unit
        total = jnp.sum(self.mean.log_prob(built["mean"], loc)) + num * jnp.sum(jnp.log(frame.scale))
        if self.ordered:
            total = total + jnp.sum(u.components[1:, 0]) + gammaln(jnp.asarray(num + 1.0, loc.dtype))
        return total

    def _log_scales(self, built: Any, log_sd: Float[Array, "C E"]) -> Float[Array, ""]:
        """Log density of the standard deviations themselves."""
        if self.variance is not None:
            log_density = self.variance.log_prob(built["variance"], jnp.exp(2.0 * log_sd))
            return jnp.sum(log_density + math.log(2.0) + log_sd)
        if not isinstance(self.sd, Distribution):  # a known sd never comes here
            raise SpecError("sd", "a distribution", self.sd)
        return jnp.sum(self.sd.log_prob(built["sd"], jnp.exp(log_sd)))

    def describe(self, data: DataScale, *, num_components: int) -> dict[str, Any]:
        """The distributions, as they were given."""
        from vigmm.core.specdict import to_dict

        return {"kind": "independent", **to_dict(self)}


def _log_scale(frame: Frame, spherical: bool) -> Float[Array, " E"]:
    log_scale = jnp.log(frame.scale)
    return jnp.mean(log_scale, keepdims=True) if spherical else log_scale


def _means(structure: Structure, columns: int) -> int:
    """D, from the number of coordinates of a component: known sds follow the means."""
    return next(dim for dim in range(1, columns + 1) if structure.position_size(dim) == columns)
