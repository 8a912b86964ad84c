"""What the training loop asks of an estimator: the bound and a descent direction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from jaxtyping import Array, Float

from vigmm.core.struct import spec, state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.families import Family, Implicit
from vigmm.models import Mixture, Prior

__all__ = ["Estimate", "Estimator", "Objective"]


@state
class Estimate:
    """A bound and a direction.

    `elbo` is in nats for the whole data set, larger is better, with all constants, in the units of
    the rows that were given. `grads` has the shape of the parameters and *descends* -elbo: a
    gradient, or a natural gradient. `terms` are the named parts of the bound, which sum to it. `se` is the
    Monte-Carlo standard error of `elbo` given the batch: 0 where nothing is drawn, infinite where one draw
    says nothing of it.
    """

    elbo: Float[Array, ""]
    grads: Any
    terms: dict[str, Float[Array, ""]]
    se: Float[Array, ""]


class Estimator(Protocol):
    """One way to estimate the ELBO and a direction from a weighted batch."""

    default_optimizer: ClassVar[tuple[str, str]]
    """Rows of `vigmm.optim.OPTIMIZERS` for a user who names none: on minibatches, on the full batch."""

    full_batch: ClassVar[bool]
    """Whether the bound holds only when a batch is the whole data set."""

    natural: ClassVar[bool]
    """Whether the direction is a natural gradient already."""

    def check(self, model: Mixture, family: Family) -> None:
        """Raise `SpecError` where the combination makes no sense, before anything is compiled."""
        ...

    def final(self) -> Estimator:
        """The estimator of the same bound whose value is the quietest: what a finished fit is reported by."""
        ...

    def value(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> dict[str, Float[Array, ""]]:
        """The terms whose sum is the bound; unless `full_batch`, only ``log_lik`` depends on the batch."""
        ...

    def estimate(
        self, model: Mixture, family: Family, params: Any, prior: Prior, batch: Batch, key: PRNGKey
    ) -> Estimate:
        """The bound and a descent direction at `params`."""
        ...


@spec
class Objective:
    """What is optimised: a model, a family and an estimator, hashable and so static under ``jit``."""

    model: Mixture
    family: Family
    estimator: Estimator

    def __post_init__(self) -> None:
        self.family.check(self.model)
        self.estimator.check(self.model, self.family)

    @property
    def metric(self) -> Callable[[Any, Any], Any] | None:
        """(params, grads) -> natural gradients, where the family knows its Fisher information."""
        known = getattr(self.family, "natural_gradient", None)
        return None if known is None or self.estimator.natural else functools.partial(known, self.model)

    @property
    def default_optimizer(self) -> tuple[str, str]:
        """Rows of `vigmm.optim.OPTIMIZERS` for a user who names none: on minibatches, on the full batch."""
        if self.estimator.natural or not isinstance(self.family, Implicit):
            return self.estimator.default_optimizer
        return self.family.default_optimizer

    def estimate(self, params: Any, prior: Prior, batch: Batch, key: PRNGKey) -> Estimate:
        """The bound and a descent direction for this model and family."""
        return self.estimator.estimate(self.model, self.family, params, prior, batch, key)

    def value(self, params: Any, prior: Prior, batch: Batch, key: PRNGKey) -> dict[str, Float[Array, ""]]:
        """The terms of the bound for this model and family."""
        return self.estimator.value(self.model, self.family, params, prior, batch, key)
