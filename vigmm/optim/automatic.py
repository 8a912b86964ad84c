"""A rate that nobody has to choose: the Spec of `vigmm.optim.staged`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from vigmm.core.struct import require, spec
from vigmm.optim import staged
from vigmm.optim.staged import StagedState
from vigmm.optim.transforms import Metric

__all__ = ["Automatic"]

# Steps over which the rate of a stage rises: it begins with a look at the ELBO near home.
_RAMP = 32.0
# What an accident of some 20 steps ago has left of the rate (`vigmm.train.recovery`).
_LATELY = 0.75


@spec
class Automatic:
    """Chooses its rates and its end by itself; for `pathwise`, `importance` and `score` estimators.

    Memory is that of 37 copies of the parameters.

    Args:
        rate: of the first stage, in units of q's own scale.
        shrink: factor of the rate from stage to stage.
        accuracy: Monte-Carlo error of a stage's average, root mean square over parameters, in units of q's
            own scale.
        rhat: largest R-hat of a window that has settled.
        window: steps in the shortest window.
        steps: the run may take so many where `Train.passes` are fewer; it ends by itself before.
        cooldown: share of a run that did not, at its end, over which the rate falls linearly to zero.
    """

    rate: float = 0.1
    shrink: float = 0.5
    accuracy: float = 0.05
    rhat: float = 1.1
    window: int = 200
    steps: int = 20_000
    cooldown: float = 0.25

    batches: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "> 0 and finite", self.rate)
        require(0 < self.shrink < 1, "shrink", "in (0, 1)", self.shrink)
        require(0 < self.accuracy < math.inf, "accuracy", "> 0 and finite", self.accuracy)
        require(1 < self.rhat < math.inf, "rhat", "> 1 and finite", self.rhat)
        require(self.window >= 64, "window", ">= 64", self.window)
        require(1 <= self.steps < 2**31, "steps", "between 1 and 2**31 - 1", self.steps)
        require(0 < self.cooldown < 1, "cooldown", "in (0, 1)", self.cooldown)

    @property
    def tail(self) -> float:
        """The cool-down."""
        return self.cooldown

    def rate_at(self, step: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, ""]:
        """The first rate, cooled down at the end of the run."""
        return self.rate * self.cooled(step, horizon)

    def rate_in(self, opt_state: StagedState, horizon: Int[Array, ""]) -> Float[Array, ""]:
        """The rate of the step that follows `opt_state`; 0 where the run is done."""
        made = (opt_state.count - opt_state.began + 1).astype(jnp.float32)
        rate = opt_state.rate * jnp.minimum(1.0, made / _RAMP) * self.cooled(opt_state.count, horizon)
        return jnp.where(opt_state.done, 0.0, rate).astype(jnp.float32)

    def cooled(self, step: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, ""]:
        """Factor of the rate: 1 until the cool-down begins."""
        t, total = (jnp.asarray(value, jnp.float32) for value in (step, horizon))
        return jnp.clip((total - t) / jnp.maximum(self.cooldown * total, 1.0), 0.0, 1.0)

    def findings(self, opt_state: StagedState) -> dict[str, Float[Array, ""]]:
        """What the record of the run keeps once a chunk: see `words`."""
        stages, verdict = opt_state.stages, opt_state.verdict
        found = {
            "rhat": verdict.rhat,
            "mcse": verdict.error,
            "window": verdict.steps,
            "stages": stages.ended,
            "gap": stages.gap,
            "judged": opt_state.judged,
            "done": opt_state.done,
        }
        return {name: value.astype(jnp.float32) for name, value in found.items()}

    def accident(self, params: Any, opt_state: StagedState, cut: Float[Array, ""]) -> tuple[Any, StagedState]:
        """After a step that was not finite: as before it, or, if it is the second lately, back home."""
        flat, unravel = ravel_pytree(params)
        lost = (cut < _LATELY) & ~opt_state.done
        back = staged.restarted(opt_state, opt_state.home, self.shrink * opt_state.rate, 0.0)
        return unravel(staged.pick(lost, opt_state.home, flat)), staged.pick(lost, back, opt_state)

    def words(self, found: Mapping[str, float]) -> str:
        """The findings as a sentence; `done` says whether the run ended by itself."""
        if not found["rhat"] >= 1.0:
            return "too short to see whether the iterates settled"
        count, ended = int(found["stages"]), "done" if found["done"] else "not done"
        text = (
            f"{ended} after {count} rate{'s' if count != 1 else ''}: the average of the last "
            f"{int(found['window'])} steps, at rate {found['judged']:.2g}, has R-hat {found['rhat']:.2f} and "
            f"a Monte-Carlo error of {found['mcse']:.2g} of q's own scale"
        )
        if found["gap"] >= 0.0:
            text += f"; the ELBO is about {found['gap']:.2g} nats below this family's best"
        return text

    def build(
        self, horizon: Int[Array, ""], metric: Metric | None = None, cut: Float[Array, ""] | float = 1.0
    ) -> optax.GradientTransformationExtraArgs:
        """The whole rule; its `update` wants ``value``, minus the ELBO, to notice too large a rate."""
        return optax.GradientTransformationExtraArgs(
            functools.partial(staged.begin, self),
            functools.partial(staged.update, self, horizon, jnp.asarray(cut, jnp.float32)),
        )

    def check(self, metric: Metric | None) -> None:
        """Needs no metric."""

    def result(self, params: Any, opt_state: StagedState) -> Any:
        """The last parameters: the average of iterates where the run is done."""
        return params
