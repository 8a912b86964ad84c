"""What the mixture and the families ask of a covariance structure."""

from __future__ import annotations

from typing import Any, Protocol, cast

from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.typing import PRNGKey

__all__ = ["ConjugateCovariance", "Covariance", "conjugate"]


class Covariance(Protocol):
    """Enough for gradient-based families: positions, log densities of rows, the prior's density.

    `parts` is whatever State the structure's own `log_normal` reads; nobody else looks inside.
    """

    def position_size(self, dim: int) -> int:
        """Unconstrained coordinates of one component."""
        ...

    def constrain(self, u: Float[Array, "K P"], dim: int) -> Any:
        """The components' parts at a position."""
        ...

    def moments(self, u: Float[Array, "K P"], dim: int) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Mean and covariance matrix of each component at a position."""
        ...

    def log_normal(self, parts: Any, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log density of each row under each component."""
        ...

    def log_prob(self, prior: Any, u: Float[Array, "K P"]) -> Float[Array, " K"]:
        """Log prior density of each component's position, Jacobian included."""
        ...


class ConjugateCovariance(Covariance, Protocol):
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

    def expected(self, q: Any) -> Any:
        """Parts whose `log_normal` is the expected log density under q."""
        ...

    def kl(self, q: Any, prior: Any) -> Float[Array, " K"]:
        """KL(q || prior) of each component, in nats."""
        ...

    def entropy(self, q: Any) -> Float[Array, " K"]:
        """Entropy of each component's position under q, in nats."""
        ...

    def log_predictive(self, q: Any, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log predictive density of each row under each component, parameters integrated out."""
        ...

    def gaussian_fit(self, q: Any) -> tuple[Float[Array, "K P"], Float[Array, "K P"]]:
        """Mean and sd of independent Gaussians over the position that are close to q."""
        ...

    def sample(self, q: Any, key: PRNGKey) -> Float[Array, "K P"]:
        """One draw of every component's position."""
        ...


def conjugate(covariance: Covariance) -> ConjugateCovariance:
    """The same structure, known to have a conjugate prior.

    Raises:
        SpecError: if it has none.
    """
    if not hasattr(covariance, "natural"):
        raise SpecError("covariance", "one with a conjugate prior, such as 'full'", type(covariance).__name__)
    return cast(ConjugateCovariance, covariance)
