"""What the mixture, the priors and the families ask of a covariance structure."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, cast

import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core.errors import SpecError
from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.math.features import Kind

__all__ = [
    "ConjugateStructure",
    "Covariance",
    "FreeStructure",
    "Hyper",
    "MarginalStructure",
    "Quadratic",
    "Scales",
    "Separable",
    "Structure",
    "StructurePosition",
    "Triangular",
    "conjugate",
]


@state
class StructurePosition:
    """Coordinates of means and covariances: one row per component, and those that all share."""

    components: Float[Array, "K P"]
    shared: Float[Array, " G"]


@state
class Scales:
    """What a position says of location, standard deviations and correlations.

    `correlation` is None where columns are independent. `log_jacobian` is the log of the volume change from
    the coordinates to (log_sd's exponential, correlation): what turns a density of the latter into one of a
    position.
    """

    loc: Float[Array, "K D"]
    log_sd: Float[Array, "C E"]
    correlation: Float[Array, "C D D"] | None
    log_jacobian: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Hyper:
    """Hyperparameters that every structure can make its own prior from, in standardised units, float64.

    Args:
        loc: prior mean of the component means.
        mean_precision: kappa, in pseudo-observations.
        dof: nu > D - 1.
        covariance: expected covariance matrix of a component.
        ratio: B / covariance, where `covariance` is not meant to be the expected one.
    """

    loc: Float[np.ndarray, " D"]
    mean_precision: float
    dof: float
    covariance: Float[np.ndarray, "D D"]
    ratio: float | None = None

    @property
    def rate(self) -> float:
        """B / covariance: nu - D - 1 where `covariance` is expected, which needs nu > D + 1."""
        return self.dof - len(self.loc) - 1.0 if self.ratio is None else self.ratio


class Structure(Protocol):
    """Enough for gradient-based families: positions, log densities of rows, the prior's density.

    `parts` is a State with a field ``log_det``, the log determinant of the root of each component's
    precision; what else it has, only the structure's own `square` reads.
    """

    def position_size(self, dim: int) -> int:
        """Unconstrained coordinates of one component."""
        ...

    def shared_size(self, dim: int) -> int:
        """Unconstrained coordinates that all components share."""
        ...

    def constrain(self, u: StructurePosition, dim: int) -> Any:
        """The components' parts at a position."""
        ...

    def moments(self, u: StructurePosition, dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at a position."""
        ...

    def square(self, parts: Any, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Squared Mahalanobis distance of each row from each component."""
        ...

    def prior(self, hyper: Hyper, num_components: int, dtype: Any) -> Any:
        """The structure's own form of a Normal-Wishart prior."""
        ...

    def scaled(self, prior: Any, factor: Float[Array, ""]) -> Any:
        """The prior with all covariances multiplied by a factor."""
        ...

    def log_prob(self, prior: Any, u: StructurePosition) -> Float[Array, ""]:
        """Log prior density of a position, Jacobian included."""
        ...


class Separable(Structure, Protocol):
    """A structure whose positions are means, standard deviations and correlations in other coordinates."""

    def scales(self, u: StructurePosition, dim: int) -> Scales:
        """Means, standard deviations and correlations at a position."""
        ...


class MarginalStructure(Structure, Protocol):
    """A structure that knows the density of some of the columns."""

    def marginal(self, u: StructurePosition, dim: int, seen: Float[Array, " D"]) -> Any:
        """The components' parts for the columns where `seen` is 1; rows have 0 in the others."""
        ...


class Quadratic(Structure, Protocol):
    """A structure whose squared distances are linear in natural features (see `vigmm.math.features`)."""

    @property
    def features(self) -> Kind:
        """Which features."""
        ...

    @property
    def sloped(self) -> bool:
        """Whether squares, too, are best computed from features; else only the statistics are."""
        ...

    def slopes(self, parts: Any) -> Float[Array, "K E"]:
        """Coefficients of -square / 2 for all features but the one."""
        ...

    def roughness(self, parts: Any, power: Float[Array, " D"]) -> Float[Array, " K"]:
        """Size of the terms that are summed, times the rounding error of a number: that of a square.

        The root of the sum of the squared terms, with `power` the mean square of each column.
        """
        ...

    def collect(self, moments: Float[Array, "K F"], centre: Float[Array, "K D"]) -> Any:
        """Sufficient statistics about `centre` from weighted sums of features, as `stats` gives them."""
        ...


class Triangular(Structure, Protocol):
    """A structure whose `parts` have ``whitener`` (C lower triangular matrices), ``offset`` and ``loc``.

    Squared distances are |W x - offset|^2.
    """

    def gathered(
        self, count: Float[Array, " K"], first: Float[Array, "K D"], second: Float[Array, "K D D"]
    ) -> Any:
        """Sufficient statistics, as `stats` gives them, from a count and two moments of each component."""
        ...


class FreeStructure(Structure, Protocol):
    """A structure without a conjugate prior, which must say itself where a run may start."""

    def near(
        self, loc: Float[Array, "K D"], cov: Float[Array, "K D D"], count: Float[Array, " K"]
    ) -> tuple[StructurePosition, StructurePosition]:
        """Position, and its sds, of a posterior after `count` rows with these means and covariances."""
        ...


class ConjugateStructure(Structure, Protocol):
    """A structure whose prior is conjugate: additive parameters, closed-form expectations.

    A posterior has the type of the prior, so `log_prob` of a posterior is log q.
    """

    def natural(self, prior: Any, centre: Float[Array, "K D"]) -> Any:
        """Additive parameters of a prior about `centre`."""
        ...

    def standard(self, natural: Any) -> Any:
        """Standard form of additive parameters."""
        ...

    def stats(self, x: Float[Array, "B D"], weight: Float[Array, "B K"], centre: Float[Array, "K D"]) -> Any:
        """Weighted sufficient statistics, shaped like additive parameters."""
        ...

    def order(self, natural: Any, index: Array) -> Any:
        """The same additive parameters with their components in another order."""
        ...

    def regroup(
        self, stats: Any, shift: Float[Array, "K D"], group: Int[Array, " K"], num_groups: int
    ) -> Any:
        """Statistics of groups of components: k joins group[k], its centre moved by shift[k]."""
        ...

    def log_partition(self, natural: Any) -> Float[Array, ""]:
        """Log normaliser of additive parameters, up to a constant for each component."""
        ...

    def expected(self, q: Any) -> Any:
        """Parts whose log density is the expected log density under q."""
        ...

    def kl_parts(self, q: Any, prior: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """KL(q || prior) of means given covariances, on average, and of covariances; they add up."""
        ...

    def scale_terms(self, q: Any, prior: Any) -> tuple[Float[Array, " G"], Float[Array, " G"]]:
        """(n, T) of E_q[log p(covariances | s)] = sum_g n_g log s - s T_g + const, s the factor of `scaled`.

        G is K, or 1 where components share what varies.
        """
        ...

    def entropy(self, q: Any) -> Float[Array, ""]:
        """Entropy of the position under q, in nats."""
        ...

    def log_predictive(self, q: Any, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log predictive density of each row under each component, parameters integrated out."""
        ...

    def gaussian_fit(self, q: Any) -> tuple[StructurePosition, StructurePosition]:
        """Mean and sd of independent Gaussians over the position that are close to q."""
        ...

    def sample(self, q: Any, key: PRNGKey) -> StructurePosition:
        """One draw of the position, differentiable in q."""
        ...

    def natural_gradient(self, natural: Any, grads: Any) -> Any:
        """The inverse Fisher information of additive parameters times a gradient in them."""
        ...


class Covariance(Protocol):
    """What a row of `COVARIANCES` can do: name its structure."""

    @property
    def structure(self) -> Structure:
        """The algebra."""
        ...


def conjugate(structure: Structure) -> ConjugateStructure:
    """The same structure, known to have a conjugate prior.

    Raises:
        SpecError: if it has none.
    """
    if not hasattr(structure, "natural"):
        raise SpecError(
            "covariance", "one with a conjugate prior, such as 'full'", type(structure).__name__.lower()
        )
    return cast(ConjugateStructure, structure)
