"""Optimisers as Specs that build Optax chains.

The horizon (total number of steps) is an argument of `build`, and may be a traced scalar: another
budget does not recompile the training step.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Protocol

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vigmm.core.struct import part, require, spec
from vigmm.optim.automatic import Automatic
from vigmm.optim.memoized import Memoized
from vigmm.optim.transforms import Metric, average_of, average_tail, scale_by_fisher

__all__ = ["OPTIMIZERS", "RULES", "Adam", "Averaged", "Fisher", "Optimizer", "RobbinsMonro", "Sgd"]

Step = Int[Array, ""]
Cut = Float[Array, ""] | float


class Optimizer(Protocol):
    """A descent rule, chosen by a Spec and built by Optax."""

    @property
    def tail(self) -> float:
        """Share of a run, at its end, that the rule needs for its noise to die down; 0 if it never does.

        A run that has stopped improving is not cut off: its horizon moves so that the tail begins.
        """
        ...

    @property
    def batches(self) -> int | None:
        """The most batches of a pass, where what each of them said is kept; None where nothing is kept."""
        ...

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """Step size of step 0, 1, ..."""
        ...

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """The Optax chain for a run of `horizon` steps.

        Args:
            horizon: number of steps.
            metric: the family's natural gradient, if it has one.
            cut: factor of the rate at this step, 1 unless the run treads softly after a bad step.
        """
        ...

    def check(self, metric: Metric | None) -> None:
        """Raise `SpecError` where the rule needs a metric and the family has none."""
        ...

    def result(self, params: Any, opt_state: Any) -> Any:
        """What a run ends with: the last parameters, or an average."""
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

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "> 0 and finite", self.rate)
        require(0 <= self.warmup < 1, "warmup", "in [0, 1)", self.warmup)
        require(self.decay in ("cosine", "none"), "decay", "'cosine' or 'none'", self.decay)
        require(self.clip is None or 0 < self.clip < math.inf, "clip", "> 0 and finite", self.clip)
        require(0 <= self.b1 < 1, "b1", "in [0, 1)", self.b1)
        require(0 <= self.b2 < 1, "b2", "in [0, 1)", self.b2)

    @property
    def tail(self) -> float:
        """The second half of the cosine, over which the rate falls from half to nothing."""
        return 0.5 if self.decay == "cosine" else 0.0

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """Rate x min(1, (t + 1)/w) x (1 + cos(pi t/T))/2."""
        t = jnp.asarray(step, jnp.float32)
        total = jnp.maximum(jnp.asarray(horizon, jnp.float32), 1.0)
        rate = self.rate * jnp.minimum(1.0, (t + 1.0) / jnp.maximum(self.warmup * total, 1.0))
        if self.decay == "cosine":
            rate = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(t / total, 1.0)))
        return rate

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """Optional clipping, Adam's scaling, then minus the rate."""
        parts = [optax.clip_by_global_norm(self.clip)] if self.clip is not None else []
        adam = optax.scale_by_adam(b1=self.b1, b2=self.b2)
        return optax.chain(*parts, adam, _descend(self, horizon, cut))

    def check(self, metric: Metric | None) -> None:
        """Needs no metric."""

    def result(self, params: Any, opt_state: Any) -> Any:
        """The last parameters."""
        return params


@spec
class Sgd:
    """Plain descent at a constant rate; with natural gradients, rate 1 is coordinate ascent.

    Args:
        rate: step size.
    """

    rate: float = 1.0

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "> 0 and finite", self.rate)

    @property
    def tail(self) -> float:
        """None: the rate stays."""
        return 0.0

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """The constant."""
        return jnp.full((), self.rate, jnp.float32)

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """Minus the rate."""
        return _descend(self, horizon, cut)

    def check(self, metric: Metric | None) -> None:
        """Needs no metric."""

    def result(self, params: Any, opt_state: Any) -> Any:
        """The last parameters."""
        return params


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

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(1 <= self.delay < math.inf, "delay", ">= 1 and finite", self.delay)
        require(0.5 < self.forgetting <= 1, "forgetting", "in (0.5, 1]", self.forgetting)
        require(0 <= self.cooldown < 1, "cooldown", "in [0, 1)", self.cooldown)

    @property
    def tail(self) -> float:
        """The cool-down."""
        return self.cooldown

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """(t + delay)^-forgetting (Hoffman et al. 2013, eq. 26), times (T - t)/(cooldown T) at the end."""
        t = jnp.asarray(step, jnp.float32)
        total = jnp.maximum(jnp.asarray(horizon, jnp.float32), 1.0)
        left = (total - t) / jnp.maximum(self.cooldown * total, 1.0)
        return (t + self.delay) ** (-self.forgetting) * jnp.clip(left, 0.0, 1.0)

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """Minus the rate."""
        return _descend(self, horizon, cut)

    def check(self, metric: Metric | None) -> None:
        """Needs no metric."""

    def result(self, params: Any, opt_state: Any) -> Any:
        """The last parameters."""
        return params


@spec
class Fisher:
    """Natural-gradient descent for Gaussian families: the gradient times the inverse Fisher information of q.

    In that metric the loss has curvature near one close to the optimum, whatever the units and however
    correlated q is: rate 1 would be Newton's step, and smaller rates average noise. The rate decays like a
    cosine.

    Args:
        rate: peak step size.
        warmup: share of the run over which the rate rises linearly.
        max_kl: trust region: no step moves q by more nats. Far from the optimum the noise of single draws
            would otherwise widen q step by step until it is lost.
    """

    rate: float = 0.1
    warmup: float = 0.05
    max_kl: float = 0.05

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(0 < self.rate <= 1, "rate", "in (0, 1]", self.rate)
        require(0 <= self.warmup < 1, "warmup", "in [0, 1)", self.warmup)
        require(0 < self.max_kl < math.inf, "max_kl", "> 0 and finite", self.max_kl)

    @property
    def tail(self) -> float:
        """The second half of the cosine."""
        return 0.5

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """Rate x min(1, (t + 1)/w) x (1 + cos(pi t/T))/2."""
        return Adam(rate=self.rate, warmup=self.warmup).rate_at(step, horizon)

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """The metric, the trust region, then minus the rate."""
        self.check(metric)
        assert metric is not None
        fisher = scale_by_fisher(
            metric, max_kl=self.max_kl, rate=lambda step: cut * self.rate_at(step, horizon)
        )
        return optax.chain(fisher, _descend(self, horizon, cut))

    def check(self, metric: Metric | None) -> None:
        """Refuse families without a natural gradient."""
        must = "'adam' for a family whose Fisher information is not known in closed form"
        require(metric is not None, "optimizer", must, "fisher")

    def result(self, params: Any, opt_state: Any) -> Any:
        """The last parameters."""
        return params


# What can be averaged; `Averaged` itself is not among them.
RULES: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "fisher": Fisher,
    "robbins_monro": RobbinsMonro,
    "sgd": Sgd,
}


@spec
class Averaged:
    """Another rule, and the mean of its iterates over the last part of the run as the result.

    With a rate that does not decay, iterates scatter about the optimum and their mean is much closer to it
    than any of them.

    Args:
        rule: the rule; a row of `RULES`.
        share: part of the run, at its end, that is averaged.
    """

    rule: Optimizer = part(RULES, "adam")
    share: float = 0.5

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", "in (0, 1]", self.share)

    @property
    def tail(self) -> float:
        """What is averaged, and what the rule itself needs."""
        return max(self.share, self.rule.tail)

    def rate_at(self, step: Step, horizon: Step) -> Float[Array, ""]:
        """The rule's."""
        return self.rule.rate_at(step, horizon)

    def build(
        self, horizon: Step, metric: Metric | None = None, cut: Cut = 1.0
    ) -> optax.GradientTransformation:
        """The rule with an average beside it."""

        def begins(step: Any) -> Any:
            return jnp.asarray(step, jnp.float32) >= (1.0 - self.share) * jnp.asarray(horizon, jnp.float32)

        return average_tail(self.rule.build(horizon, metric, cut), begins)

    def check(self, metric: Metric | None) -> None:
        """The rule's."""
        self.rule.check(metric)

    def result(self, params: Any, opt_state: Any) -> Any:
        """The mean of the iterates."""
        return average_of(opt_state)


def _descend(optimizer: Optimizer, horizon: Step, cut: Cut) -> optax.GradientTransformation:
    """Scale by -cut rate(step), keeping each leaf's dtype."""

    def schedule(step: Any) -> Array:
        return -cut * optimizer.rate_at(step, horizon)

    return optax.scale_by_schedule(schedule)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    **RULES,
    "automatic": Automatic,
    "averaged": Averaged,
    "memoized": Memoized,
}
