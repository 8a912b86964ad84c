"""What an estimator and the posterior ask of a variational family."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float

from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.models import Mixture, Position, Prior

__all__ = ["Blockwise", "ClosedEntropy", "Family", "Guess", "Implicit", "Reparameterised"]


@state
class Guess:
    """Where q starts: a position, standard deviations and, where the model has one, a conjugate posterior."""

    loc: Any
    scale: Any
    conjugate: Any


class Family(Protocol):
    """A family q(u; params) over positions of a model.

    Methods take the model first because a family's parameters have the model's shapes; `params` is
    a State. `log_q` comes from the noise that made the sample, never from inverting the sample.
    """

    default_estimator: ClassVar[str]
    """Row of `vigmm.estimators.ESTIMATORS` for a user who names only the family."""

    def check(self, model: Mixture) -> None:
        """Raise `SpecError` where the family does not fit the model."""
        ...

    def init(self, model: Mixture, guess: Guess) -> Any:
        """Parameters close to a guess."""
        ...

    def sample(self, model: Mixture, params: Any, key: PRNGKey) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        ...

    def log_prob(self, model: Mixture, params: Any, u: Position) -> Float[Array, ""]:
        """Log q(u; params)."""
        ...

    def weights(self, model: Mixture, params: Any) -> Float[Array, " K"]:
        """Expected mixture weights; cheap, for metrics."""
        ...

    def log_predictive(
        self,
        model: Mixture,
        params: Any,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the posterior predictive joint p(x_b, z_b = k | data), parameters averaged out."""
        ...


@runtime_checkable
class Blockwise(Protocol):
    """A family that may make weights, components and what is shared independent of each other."""

    def independent_blocks(self, model: Mixture) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class Reparameterised(Protocol):
    """A family whose draws are a differentiable map of standard normal noise."""

    def noise_size(self, model: Mixture, params: Any) -> int:
        """How many standard normal numbers make one draw."""
        ...

    def push(
        self, model: Mixture, params: Any, noise: Float[Array, " M"]
    ) -> tuple[Position, Float[Array, ""]]:
        """The draw that the noise makes, and its log q, from the noise."""
        ...


@runtime_checkable
class Implicit(Protocol):
    """A family whose draws are differentiable in its parameters without being a map of normal noise."""

    default_optimizer: ClassVar[tuple[str, str]]
    """Rows of `vigmm.optim.OPTIMIZERS` for gradients of its draws: on minibatches, on the full batch."""

    def unsound(self, model: Mixture) -> str | None:
        """Why gradients of draws are of no use for this model, or None where they are sound."""
        ...


@runtime_checkable
class ClosedEntropy(Protocol):
    """A family whose entropy has a closed form."""

    def entropy(self, model: Mixture, params: Any) -> Float[Array, ""]:
        """-E_q[log q], in nats, over positions."""
        ...
