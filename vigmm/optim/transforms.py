"""Optax transformations of our own: Fisher preconditioning, a trust region, and averages of iterates.

References:
    Amari (1998) for natural gradients; Schulman et al. (2015) for the trust region in KL; Polyak and
    Juditsky (1992) for averaging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.struct import state

__all__ = ["AverageState", "Metric", "average_of", "average_tail", "scale_by_fisher"]

Metric = Callable[[Any, Any], Any]
"""(params, grads) -> the inverse Fisher information times grads."""


def scale_by_fisher(
    metric: Metric, *, max_kl: float, rate: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """Natural gradients, shortened where a step at `rate` would move q by more than `max_kl` nats.

    To second order a step of length r along the natural gradient n = F^-1 g has KL r^2 g.n / 2.

    Args:
        metric: what multiplies by the inverse Fisher information.
        max_kl: largest divergence between q before and after a step.
        rate: step size by step number; the scaling itself is left to what follows in the chain.
    """

    def init(params: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(grads: Any, state: optax.ScaleByScheduleState, params: Any = None) -> tuple[Any, Any]:
        natural = metric(params, grads)
        square = sum(jnp.sum(g * n) for g, n in zip(*map(jax.tree.leaves, (grads, natural)), strict=True))
        divergence = 0.5 * jnp.square(rate(state.count)) * square
        shrink = jnp.sqrt(max_kl / jnp.maximum(divergence, max_kl))
        scaled = jax.tree.map(lambda n: (shrink * n).astype(n.dtype), natural)
        return scaled, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


@state
class AverageState:
    """State of `average_tail`: of the inner transformation, the number of steps seen, and the average."""

    inner: Any
    seen: Int[Array, ""]
    taken: Float[Array, ""]
    mean: Any


def average_tail(
    inner: optax.GradientTransformation, begins: Callable[[Any], Bool[Array, ""]]
) -> optax.GradientTransformation:
    """`inner`, and beside it the mean of the iterates from the step on at which `begins` becomes true."""

    def init(params: Any) -> AverageState:
        zero = jnp.zeros((), jnp.int32)
        mean = jax.tree.map(jnp.copy, params)
        return AverageState(inner=inner.init(params), seen=zero, taken=jnp.zeros(()), mean=mean)

    def update(grads: Any, before: AverageState, params: Any = None) -> tuple[Any, AverageState]:
        updates, after = inner.update(grads, before.inner, params)
        new = optax.apply_updates(params, updates)
        taken = jnp.where(begins(before.seen), before.taken + 1.0, 0.0)
        # Before it begins the share is one: the mean is the iterate itself.
        share = 1.0 / jnp.maximum(taken, 1.0)
        mean = jax.tree.map(lambda m, p: (m + share * (p - m)).astype(m.dtype), before.mean, new)
        seen = optax.safe_increment(before.seen)
        return updates, AverageState(inner=after, seen=seen, taken=taken, mean=mean)

    return optax.GradientTransformation(init, update)


def average_of(after: AverageState) -> Any:
    """The mean of the iterates; before averaging begins, the last of them."""
    return after.mean
