"""Optimisers as Specs that build Optax chains.

The horizon (total number of steps) is an argument of `build`, and may be a traced scalar: another
budget does not recompile the training step.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vigmm.core.struct import require, spec

__all__ = ["OPTIMIZERS", "Adam", "Optimizer", "RobbinsMonro", "Sgd"]

Step = Int[Array, ""]


class Optimizer(Protocol):
    """A descent rule, chosen by a Spec and built by Optax."""

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """Step size of step 0, 1, ..."""
        ...

    def build(self, horizon: Step) -> optax.GradientTransformation:
        """The Optax chain for a run of `horizon` steps."""
        ...


@spec
class Adam:
    """Adam with linear warm-up and cosine decay to zero (Kingma and Ba 2015).

    Args:
        rate: peak step size, in units of the unconstrained position.
        warmup: share of the run over which the rate rises linearly.
        decay: ``cosine`` or ``none``.
        clip: largest global norm of the gradient (of minus the ELBO of the whole data), or ``None``.
        b1: decay of the first moment.
        b2: decay of the second moment.
    """

    rate: float = 0.01
    warmup: float = 0.02
    decay: Literal["cosine", "none"] = "cosine"
    clip: float | None = None
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "> 0 and finite", self.rate)
        require(0 <= self.warmup < 1, "warmup", "in [0, 1)", self.warmup)
        require(self.decay in ("cosine", "none"), "decay", "'cosine' or 'none'", self.decay)
        require(self.clip is None or 0 < self.clip < math.inf, "clip", "> 0 and finite", self.clip)
        require(0 <= self.b1 < 1, "b1", "in [0, 1)", self.b1)
        require(0 <= self.b2 < 1, "b2", "in [0, 1)", self.b2)

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """Rate x min(1, (t + 1)/w) x (1 + cos(pi t/T))/2."""
        t = jnp.asarray(step, jnp.float32)
        total = jnp.maximum(jnp.asarray(horizon, jnp.float32), 1.0)
        rate = self.rate * jnp.minimum(1.0, (t + 1.0) / jnp.maximum(self.warmup * total, 1.0))
        if self.decay == "cosine":
            rate = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(t / total, 1.0)))
        return rate

    def build(self, horizon: Step) -> optax.GradientTransformation:
        """Optional clipping, Adam's scaling, then minus the rate."""
        parts = [optax.clip_by_global_norm(self.clip)] if self.clip is not None else []
        adam = optax.scale_by_adam(b1=self.b1, b2=self.b2)
        return optax.chain(*parts, adam, _descend(self, horizon))


@spec
class Sgd:
    """Plain descent at a constant rate; with natural gradients, rate 1 is coordinate ascent.

    Args:
        rate: step size.
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "> 0 and finite", self.rate)

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """The constant."""
        return jnp.full((), self.rate, jnp.float32)

    def build(self, horizon: Step) -> optax.GradientTransformation:
        """Minus the rate."""
        return _descend(self, horizon)


@spec
class RobbinsMonro:
    """Decreasing rates for stochastic natural gradients: (t + delay)^-forgetting, cooled down at the end.

    Forgetting in (0.5, 1] satisfies Robbins and Monro (1951): the sum of the rates diverges, that of
    their squares does not. Values near 0.5 keep the rate, and with it the noise that frees
    components from poor places, high for long; the cool-down then averages that noise away.

    Args:
        delay: tau, at least 1, so that no rate exceeds 1.
        forgetting: kappa, in (0.5, 1].
        cooldown: share of the run, at its end, over which the rate falls linearly to zero.
    """

    delay: float = 10.0
    forgetting: float = 0.55
    cooldown: float = 0.2

    def __post_init__(self) -> None:
        require(1 <= self.delay < math.inf, "delay", ">= 1 and finite", self.delay)
        require(0.5 < self.forgetting <= 1, "forgetting", "in (0.5, 1]", self.forgetting)
        require(0 <= self.cooldown < 1, "cooldown", "in [0, 1)", self.cooldown)

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """(t + delay)^-forgetting (Hoffman et al. 2013, eq. 26), times (T - t)/(cooldown T) at the end."""
        t = jnp.asarray(step, jnp.float32)
        total = jnp.maximum(jnp.asarray(horizon, jnp.float32), 1.0)
        left = (total - t) / jnp.maximum(self.cooldown * total, 1.0)
        return (t + self.delay) ** (-self.forgetting) * jnp.clip(left, 0.0, 1.0)

    def build(self, horizon: Step) -> optax.GradientTransformation:
        """Minus the rate."""
        return _descend(self, horizon)


def _descend(optimizer: Optimizer, horizon: Step) -> optax.GradientTransformation:
    """Scale by -rate(step), keeping each leaf's dtype."""

    def schedule(step: Any) -> Array:
        return -optimizer.rate_at(step, horizon)

    return optax.scale_by_schedule(schedule)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "robbins_monro": RobbinsMonro, "sgd": Sgd}
