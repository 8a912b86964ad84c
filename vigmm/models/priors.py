"""Component priors: what is believed of means and covariances before the data.

A prior Spec is turned into arrays once per fit, in the standardised space the engine works in, and
is then an *argument* of every estimator: a prior that follows the data never recompiles anything.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec, state
from vigmm.models.covariance.normal_wishart import NormalWishartParams

__all__ = ["PRIORS", "ComponentPrior", "DataScale", "NormalWishart"]


@state
class DataScale:
    """Moments of the data in original units and the affine map of the standardised space (float64).

    z = (x - center) / scale.
    """

    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]
    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]


class ComponentPrior(Protocol):
    """What a row of `PRIORS` can do."""

    def build(self, data: DataScale, *, num_components: int, dtype: Any) -> Any:
        """Hyperparameters in the standardised space."""
        ...

    def describe(self, built: Any, data: DataScale) -> dict[str, Any]:
        """The hyperparameters in original units, JSON-ready."""
        ...


@spec
class NormalWishart:
    """Normal-Wishart prior: Lambda ~ Wishart(nu, B^-1), mu | Lambda ~ N(mean, (kappa Lambda)^-1).

    B = (nu - D - 1) `covariance`, so that `covariance` is the expected covariance of a component. Left
    to itself it is the data's covariance divided by K^(2/D): K equal balls that tile the data's
    ellipsoid (Fraley and Raftery 2007, Journal of Classification 24). All values are in the units
    of the data.

    Args:
        mean: prior mean of the component means, D values; ``None`` takes the data's mean.
        mean_precision: kappa, in pseudo-observations.
        dof: nu, larger than D + 1; ``None`` takes D + 2.
        covariance: expected covariance of a component, D x D; ``None`` follows the data as above.
        scale: multiplies the expected covariance; the knob to turn in a sensitivity check.
        shrink: share of its diagonal that replaces the data's covariance, so that collinear or
            constant columns still give a proper prior. Not applied to a given `covariance`.
    """

    mean: tuple[float, ...] | None = None
    mean_precision: float = 0.01
    dof: float | None = None
    covariance: tuple[tuple[float, ...], ...] | None = None
    scale: float = 1.0
    shrink: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("mean_precision", "scale"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, "> 0 and finite", value)
        require(self.dof is None or 0 < self.dof < math.inf, "dof", "> 0 and finite", self.dof)
        require(0 <= self.shrink <= 1, "shrink", "between 0 and 1", self.shrink)

    def build(self, data: DataScale, *, num_components: int, dtype: Any) -> NormalWishartParams:
        """The prior in the standardised space.

        Raises:
            SpecError: if a given value does not fit the D columns of the data.
        """
        dim = data.mean.shape[0]
        dof = dim + 2.0 if self.dof is None else self.dof
        require(dof > dim + 1, "dof", f"> D + 1 = {dim + 1} for data of {dim} columns", self.dof)
        mean = data.mean if self.mean is None else np.asarray(self.mean, np.float64)
        fits = mean.shape == (dim,) and (self.mean is None or bool(np.all(np.isfinite(mean))))
        require(fits, "mean", f"{dim} values, one per column, all finite", self.mean)
        cov = self._expected_covariance(data, num_components) * self.scale
        factor = _factor((dof - dim - 1.0) * cov, self.covariance)

        def repeat(value: Any) -> Array:
            return jnp.asarray(np.repeat(np.asarray(value, np.float64)[None], num_components, axis=0), dtype)

        return NormalWishartParams(
            loc=repeat((mean - data.center) / data.scale),
            mean_precision=repeat(self.mean_precision),
            dof=repeat(dof),
            rate_factor=repeat(factor),
        )

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
        tiles: np.ndarray = cov / num_components ** (2.0 / dim)
        return tiles

    def describe(self, built: NormalWishartParams, data: DataScale) -> dict[str, Any]:
        """The prior that was used, in original units, for the manifest."""
        factor = np.asarray(built.rate_factor[0], np.float64)
        dim = factor.shape[0]
        dof = float(built.dof[0])
        unit = np.outer(data.scale, data.scale)
        return {
            "kind": "normal_wishart",
            "mean": (data.center + data.scale * np.asarray(built.loc[0], np.float64)).tolist(),
            "mean_precision": float(built.mean_precision[0]),
            "dof": dof,
            "expected_covariance": (factor @ factor.T * unit / (dof - dim - 1.0)).tolist(),
        }


def _factor(rate: Float[np.ndarray, "D D"], given: object) -> Float[np.ndarray, "D D"]:
    try:
        return np.linalg.cholesky(rate)
    except np.linalg.LinAlgError as error:
        raise SpecError("covariance", "positive definite", given or "the data's covariance") from error


PRIORS: dict[str, type[ComponentPrior]] = {"normal_wishart": NormalWishart}
