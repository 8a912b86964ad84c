"""What an estimator and the posterior ask of a variational family."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from jaxtyping import Array, Float

from vigmm.core.typing import PRNGKey
from vigmm.models import Mixture, Position

__all__ = ["Family"]


class Family(Protocol):
    """A family q(u; params) over positions of a model.

    Methods take the model first because a family's parameters have the model's shapes; `params` is
    a State. `log_q` comes from the noise that made the sample, never from inverting the sample.
    """

    default_estimator: ClassVar[str]
    """Row of `vigmm.estimators.ESTIMATORS` for a user who names only the family."""

    def init(self, model: Mixture, start: Any) -> Any:
        """Parameters that match a conjugate posterior `start` (`vigmm.families.conjugate`)."""
        ...

    def sample(self, model: Mixture, params: Any, key: PRNGKey) -> tuple[Position, Float[Array, ""]]:
        """One reparameterised draw and its log q."""
        ...

    def log_prob(self, model: Mixture, params: Any, u: Position) -> Float[Array, ""]:
        """Log q(u; params)."""
        ...

    def entropy(self, model: Mixture, params: Any) -> Float[Array, ""]:
        """-E_q[log q], in nats, over positions."""
        ...

    def weights(self, model: Mixture, params: Any) -> Float[Array, " K"]:
        """Expected mixture weights; cheap, for metrics."""
        ...

    def log_predictive(
        self, model: Mixture, params: Any, x: Float[Array, "B D"], key: PRNGKey, *, num_draws: int
    ) -> Float[Array, "B K"]:
        """Log of the posterior predictive joint p(x_b, z_b = k | data), parameters averaged out."""
        ...
