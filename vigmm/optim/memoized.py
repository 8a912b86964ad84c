"""Memoized natural gradients: what every batch said last is kept, so that a step knows of all rows.

References:
    Neal and Hinton (1998), A view of the EM algorithm that justifies incremental variants; Hughes and
    Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models, NIPS.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vigmm.core.struct import require, spec
from vigmm.optim.transforms import Metric

__all__ = ["Memoized"]


@spec
class Memoized:
    """Incremental coordinate ascent, without a rate to choose; needs the `natural` estimator.

    The rows are cut once into S fixed batches. A step computes the statistics of one batch anew, puts them in
    the place of what that batch said a pass ago, and moves to prior + statistics of all batches. From the end
    of the first pass on the ELBO of every step is an exact bound of all rows, and it never falls.

    Memory is that of S posteriors, K D^2 numbers each for full covariances, however many rows there are. A
    batch has `Train.batch_size` rows, or N / batches where that is more, so that S <= `batches`. One batch of
    all rows is coordinate ascent.

    Args:
        batches: the most batches that are kept.
    """

    batches: int = 20

    def __post_init__(self) -> None:
        require(self.batches >= 1, "batches", ">= 1", self.batches)

    @property
    def tail(self) -> float:
        """None: there is no noise to die down."""
        return 0.0

    def rate_at(self, step: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, ""]:
        """One."""
        return jnp.ones((), jnp.float32)

    def build(
        self, horizon: Int[Array, ""], metric: Metric | None = None, cut: Float[Array, ""] | float = 1.0
    ) -> optax.GradientTransformation:
        """The whole step, or `cut` of it: what is remembered is in the gradient already."""
        return optax.scale(-cut)

    def check(self, metric: Metric | None) -> None:
        """Needs no metric."""

    def result(self, params: Any, opt_state: Any) -> Any:
        """The last parameters."""
        return params
