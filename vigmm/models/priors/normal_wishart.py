"""The Normal-Wishart prior, and its counterpart for every covariance structure.

A prior Spec is turned into arrays once per fit, in the standardised space the engine works in, and
is then an *argument* of every estimator: a prior that follows the data never recompiles anything.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec
from vigmm.math.linalg import LOG_2PI
from vigmm.models.covariance import Hyper, Structure, StructurePosition
from vigmm.models.priors.base import DataScale, Frame
from vigmm.models.weights import Gamma

__all__ = ["NormalWishart"]


@spec
class NormalWishart:
    """Normal-Wishart prior: Lambda ~ Wishart(nu, B^-1), mu | Lambda ~ N(mean, (kappa Lambda)^-1).

    Structures without a full matrix take their counterpart: variances have the marginals of the inverse
    Wishart.

    B = (nu - D - 1) `covariance`, so that `covariance` is the expected covariance of a component. Left
    to itself it is the data's covariance divided by K^(2/D): K equal balls that tile the data's
    ellipsoid (Fraley and Raftery 2007, Journal of Classification 24), and the search for the number of
    components may find that it is larger (`roving`). All values are in the units of the data.

    Args:
        mean: prior mean of the component means, D values; ``None`` takes the data's mean.
        mean_precision: kappa, in pseudo-observations.
        dof: nu, larger than D + 1, or than D - 1 where `ratio` is given; ``None`` takes D + 2.
        covariance: expected covariance of a component, D x D; ``None`` follows the data as above.
        scale: multiplies the expected covariance; the knob to turn in a sensitivity check.
        shrink: share of its diagonal that replaces the data's covariance, so that collinear or
            constant columns still give a proper prior. Not applied to a given `covariance`.
        ratio: B / `covariance`; ``None`` takes nu - D - 1 as above. A number frees nu of it: 1 makes
            `covariance` B itself.
        hyper: infers a common factor s of all components' expected covariances, s ~ Gamma: how large a
            cluster is, the data say themselves. Of mean one, such as Gamma(2, 2), it is centred on
            `covariance`.
        least: the least E[s]: rows that are tied or collinear would take any.
    """

    mean: tuple[float, ...] | None = None
    mean_precision: float = 0.01
    dof: float | None = None
    covariance: tuple[tuple[float, ...], ...] | None = None
    scale: float = 1.0
    shrink: float = 1e-3
    ratio: float | None = None
    hyper: Gamma | None = None
    least: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("mean_precision", "scale", "least"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, "> 0 and finite", value)
        require(self.dof is None or 0 < self.dof < math.inf, "dof", "> 0 and finite", self.dof)
        require(0 <= self.shrink <= 1, "shrink", "between 0 and 1", self.shrink)
        require(self.ratio is None or 0 < self.ratio < math.inf, "ratio", "> 0 and finite", self.ratio)

    @property
    def roving(self) -> NormalWishart | None:
        """The same prior, a factor s >= 1 of the covariances inferred; None where B or its scale are given.

        B follows the data through a rule of thumb, and E[Sigma] = B of few degrees of freedom is far larger
        than a typical covariance: (D + 2)-fold at nu = D + 2. Below one the rule stays, as a floor under
        components of tied or collinear rows.
        """
        given = (self.covariance, self.ratio, self.hyper) != (None, None, None) or self.scale != 1.0
        return None if given else dataclasses.replace(self, hyper=Gamma(shape=2.0, rate=2.0), least=1.0)

    def refusal(self, structure: Structure) -> str | None:
        """None where the structure has a conjugate algebra."""
        return None if hasattr(structure, "natural") else "this covariance has no conjugate prior"

    def check(self, structure: Structure) -> None:
        """Fits every structure."""

    def position_size(self, structure: Structure, dim: int) -> int:
        """The structure's own."""
        return structure.position_size(dim)

    def shared_size(self, structure: Structure, dim: int) -> int:
        """The structure's own, and the log of the common factor."""
        return structure.shared_size(dim) + (self.hyper is not None)

    def expand(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> StructurePosition:
        """The same coordinates, the common factor taken off."""
        if self.hyper is None:
            return u
        return StructurePosition(components=u.components, shared=u.shared[:-1])

    def rank(self, u: StructurePosition) -> Array | None:
        """Any order."""
        return None

    def contract(self, structure: Structure, u: StructurePosition) -> StructurePosition:
        """The same coordinates; a common factor starts at one."""
        return u if self.hyper is None else _with(u, 0.0)

    def contract_scale(
        self, structure: Structure, u: StructurePosition, sd: StructurePosition
    ) -> StructurePosition:
        """The same coordinates."""
        return sd if self.hyper is None else _with(sd, 0.3)

    def log_prob(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """The structure's own form of the prior, and the density of the log of the common factor."""
        if self.hyper is None:
            return structure.log_prob(built, u)
        log_factor = u.shared[-1]
        given = structure.scaled(built, jnp.exp(log_factor))
        inner = self.expand(structure, built, frame, u)
        return structure.log_prob(given, inner) + self.hyper.log_prob(log_factor)

    def log_means(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """mu_k ~ N(m_k, Sigma_k / kappa_k), whatever the structure of Sigma_k."""
        u = self.expand(structure, built, frame, u)
        num, dim = built.loc.shape
        parts, kappa = structure.constrain(u, dim), built.mean_precision
        square = structure.square(parts, built.loc)[jnp.arange(num), jnp.arange(num)]
        normal = dim * (jnp.log(kappa) - LOG_2PI) + 2.0 * parts.log_det - kappa * square
        return 0.5 * jnp.sum(normal)

    def build(
        self, data: DataScale, *, structure: Structure, num_components: int, most: int, dtype: Any
    ) -> Any:
        """The prior in the standardised space, in the structure's own form.

        Raises:
            SpecError: if a given value does not fit the D columns of the data.
        """
        return structure.prior(self._hyper(data, most), num_components, dtype)

    def _hyper(self, data: DataScale, num_components: int) -> Hyper:
        dim = data.mean.shape[0]
        dof = dim + 2.0 if self.dof is None else self.dof
        least, rule = (dim + 1, "D + 1") if self.ratio is None else (dim - 1, "D - 1")
        require(dof > least, "dof", f"> {rule} = {least} for data of {dim} columns", self.dof)
        mean = data.mean if self.mean is None else np.asarray(self.mean, np.float64)
        fits = mean.shape == (dim,) and (self.mean is None or bool(np.all(np.isfinite(mean))))
        require(fits, "mean", f"{dim} values, one per column, all finite", self.mean)
        cov = self._expected_covariance(data, num_components) * self.scale
        try:
            np.linalg.cholesky(cov)
        except np.linalg.LinAlgError as error:
            got = self.covariance or "the data's covariance"
            raise SpecError("covariance", "positive definite", got) from error
        loc = (mean - data.center) / data.scale
        return Hyper(loc=loc, mean_precision=self.mean_precision, dof=dof, covariance=cov, ratio=self.ratio)

    def _expected_covariance(self, data: DataScale, num_components: int) -> Float[np.ndarray, "D D"]:
        dim = data.mean.shape[0]
        unit = np.outer(data.scale, data.scale)
        if self.covariance is not None:
            cov = np.asarray(self.covariance, np.float64)
            square = cov.shape == (dim, dim) and bool(np.all(np.isfinite(cov)))
            # Relative to its own size: in small units every matrix is symmetric to 1e-8.
            fits = square and bool(np.abs(cov - cov.T).max() <= 1e-8 * np.abs(cov).max())
            require(fits, "covariance", f"a finite symmetric {dim} x {dim} matrix", self.covariance)
            given: np.ndarray = cov / unit
            return given
        cov = data.cov / unit
        diagonal = np.diag(cov).copy()
        # A constant column has no variance to follow: the floor keeps the prior proper.
        diagonal[~(diagonal > self.shrink)] = max(self.shrink, 1e-6)
        cov = (1.0 - self.shrink) * (cov - np.diag(np.diag(cov))) + np.diag(diagonal)
        tiles: np.ndarray = data.spread * cov / num_components ** (2.0 / dim)
        return tiles

    def describe(self, data: DataScale, *, num_components: int) -> dict[str, Any]:
        """The prior that was used, in original units, for the manifest."""
        hyper = self._hyper(data, num_components)
        unit = np.outer(data.scale, data.scale)
        beyond = hyper.dof - len(hyper.loc) - 1.0
        expected = hyper.covariance * unit * (hyper.rate / beyond) if beyond > 0 else None
        return {
            "kind": "normal_wishart",
            "mean": (data.center + data.scale * hyper.loc).tolist(),
            "mean_precision": hyper.mean_precision,
            "dof": hyper.dof,
            **({} if self.hyper is None else {"factor": dataclasses.asdict(self.hyper)}),
            # An inverse Wishart has a mean from D + 1 degrees of freedom on.
            "expected_covariance": None if expected is None else expected.tolist(),
        }


def _with(u: StructurePosition, value: float) -> StructurePosition:
    """One more shared coordinate."""
    shared = jnp.concatenate([u.shared, jnp.full((1,), value, u.shared.dtype)])
    return StructurePosition(components=u.components, shared=shared)
