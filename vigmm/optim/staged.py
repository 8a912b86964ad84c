"""Averaged Adam in stages: its rate falls where, and as long as, that is worth it.

**Steps.** Adam in units of q's own scale (`vigmm.optim.windows.units`), in which all parameters have
curvature near one, whatever the data: at rate g their memory is about 1/g steps, and their noise a part g of
q's variance. The second moment is the plain mean over the steps at one rate, so that it settles.

**Stages.** At one rate iterates reach a stationary distribution about a point that is off the optimum by a
bias. A stage ends when a window of its iterates has settled (R-hat) and its average is known to `accuracy`
(Monte-Carlo error), or to three times that where its bias is larger still. The next stage begins at that
average, with the rate times `shrink`. How far the averages of successive rates are apart says how far the
last of them is from the optimum (`vigmm.optim.stages`); the run ends when what the next rate would win does
not pay for its steps.

**When it goes wrong.** A rate is too large where the ELBO falls below the best that was seen by more than its
noise and half a nat for every location, or where steps are not finite twice in short order: back home, with
the rate times `shrink`. Iterates that still wander after a quarter of the steps that
are left get a smaller rate although they have not settled, and that is no evidence of anything. A budget that
runs out first ends with the rate going linearly to zero.

Reference: Welandawe, Andersen, Vehtari and Huggins (2022), A framework for improving the reliability of
black-box variational inference, arXiv:2203.15945; docs/decisions/021-automatic-rate.md has what differs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.struct import state
from vigmm.optim import stages as history
from vigmm.optim import windows as iterates
from vigmm.optim.stages import Stages
from vigmm.optim.windows import Verdict, Windows, units

if TYPE_CHECKING:
    from vigmm.optim.automatic import Automatic

__all__ = ["StagedState", "begin", "pick", "restarted", "update"]

_B1, _TINY = 0.9, 1e-8
# Gradients of the stage before that the second moment remembers.
_CARRIED = 100.0
# K_0 of equation (4), in shortest windows.
_FREE = 5.0
# Of `accuracy`, what the average of a stage needs that is not to be the last.
_ROUGH = 3.0
# Of the steps left, what one stage may take.
_SHARE = 0.25
# Nats for each location, and standard errors, that the ELBO may fall: iterates scattered as widely as q.
_FALL, _SIGMAS = 0.5, 5.0


@state
class Losses:
    """Minus the ELBO over the block that is being filled, and over the block where it was lowest.

    Args:
        mean: of the block.
        square: sum of squares about it.
        best: lowest mean of a block.
        spread: variance of the steps in that block.
        steps: how many they are.
    """

    mean: Float[Array, ""]
    square: Float[Array, ""]
    best: Float[Array, ""]
    spread: Float[Array, ""]
    steps: Float[Array, ""]


@state
class StagedState:
    """State of a staged run; P parameters in one vector.

    Args:
        count: steps of the run.
        began: steps before this stage.
        rate: of this stage.
        home: where it began; in the first stage, where the ELBO was best.
        first: mean of gradients, as Adam's.
        second: mean of squared gradients over the stage.
        weight: gradients in it.
        windows: averages of the stage's iterates.
        losses: how the ELBO does.
        stages: what the stages before say.
        verdict: the last of the windows.
        judged: the rate of the iterates that it is about.
        done: whether the parameters are what the run ends with.
    """

    count: Int[Array, ""]
    began: Int[Array, ""]
    rate: Float[Array, ""]
    home: Float[Array, " P"]
    first: Float[Array, " P"]
    second: Float[Array, " P"]
    weight: Float[Array, ""]
    windows: Windows
    losses: Losses
    stages: Stages
    verdict: Verdict
    judged: Float[Array, ""]
    done: Bool[Array, ""]


def begin(rule: Automatic, params: Any) -> StagedState:
    """Before the first step."""
    flat, _ = ravel_pytree(params)
    zero, none = jnp.zeros((), jnp.int32), jnp.zeros((), flat.dtype)
    single = jnp.zeros((), jnp.float32)
    return StagedState(
        count=zero,
        began=zero,
        rate=single + rule.rate,
        home=flat,
        first=jnp.zeros_like(flat),
        second=jnp.zeros_like(flat),
        weight=none,
        windows=iterates.begin(flat),
        losses=Losses(mean=none, square=none, best=none + math.inf, spread=none, steps=none + 1.0),
        stages=history.begin(flat.dtype),
        verdict=Verdict(
            rhat=none + math.nan, error=none + math.nan, noise=none + math.nan, steps=zero,
            settled=jnp.zeros((), jnp.bool_),
        ),
        judged=single + rule.rate,
        done=jnp.zeros((), jnp.bool_),
    )  # fmt: skip


def update(
    rule: Automatic,
    horizon: Int[Array, ""],
    cut: Float[Array, ""],
    grads: Any,
    before: StagedState,
    params: Any = None,
    *,
    value: Float[Array, ""] | float = 0.0,
    **_: Any,
) -> tuple[Any, StagedState]:
    """One step of Adam in units, then what a full block of iterates says."""
    flat, unravel = ravel_pytree(params)
    unit = ravel_pytree(units(params))[0]
    slope = unit * ravel_pytree(grads)[0]
    kind = flat.dtype

    weight = before.weight + 1.0
    first = _B1 * before.first + (1.0 - _B1) * slope
    second = before.second + (slope**2 - before.second) / weight
    made = (before.count - before.began + 1).astype(kind)
    size = (rule.rate_in(before, horizon) * cut).astype(kind)
    flat = flat - size * unit * first / (1.0 - _B1**made) / (jnp.sqrt(second) + _TINY)

    windows, closes = iterates.add(before.windows, flat)
    new = dataclasses.replace(
        before,
        count=before.count + 1,
        first=first,
        second=second,
        weight=weight,
        windows=windows,
        losses=_heard(before.losses, jnp.asarray(value, kind), before.windows.taken),
    )
    warm = rule.cooled(before.count, horizon) >= 1.0
    places = sum(leaf.size for leaf in jax.tree.leaves(getattr(params, "loc", params)))
    turn = functools.partial(_turn, rule, horizon, unit, before.windows.length, _FALL * places)
    new, flat = lax.cond(closes & warm, turn, lambda *same: same, new, flat)
    new = pick(before.done, before, new)
    step = jnp.where(before.done, 0.0, flat - ravel_pytree(params)[0])
    return unravel(step), new


def pick(where: Bool[Array, ""], one: Any, other: Any) -> Any:
    """One tree or the other."""
    return jax.tree.map(lambda a, b: jnp.where(where, a, b), one, other)


def _heard(losses: Losses, value: Float[Array, ""], taken: Int[Array, ""]) -> Losses:
    """One more loss of the block, by Welford's recurrence."""
    count = (taken + 1).astype(value.dtype)
    mean = jnp.where(taken == 0, 0.0, losses.mean)
    square = jnp.where(taken == 0, 0.0, losses.square)
    off = value - mean
    mean = mean + off / count
    return dataclasses.replace(losses, mean=mean, square=square + off * (value - mean))


def _turn(
    rule: Automatic,
    horizon: Int[Array, ""],
    unit: Float[Array, " P"],
    length: Int[Array, ""],
    margin: float,
    now: StagedState,
    flat: Float[Array, " P"],
) -> tuple[StagedState, Float[Array, " P"]]:
    """After a full block: go on, go back, begin the next stage, or be done.

    Args:
        rule: the choices.
        horizon: steps in the budget.
        unit: of every parameter.
        length: steps in the block.
        margin: nats that the ELBO may fall.
        now: the state after the step.
        flat: the parameters after the step.
    """
    count = length.astype(unit.dtype)
    losses = now.losses
    # The noise of a block that is lost would hide that it is.
    error = jnp.sqrt(losses.spread * (1.0 / count + 1.0 / losses.steps))
    lost = losses.mean - losses.best > margin + _SIGMAS * error
    better = losses.mean < losses.best
    losses = dataclasses.replace(
        losses,
        best=jnp.where(better, losses.mean, losses.best),
        spread=jnp.where(better, losses.square / (count - 1.0), losses.spread),
        steps=jnp.where(better, count, losses.steps),
    )

    verdict = iterates.judge(now.windows, unit, limit=rule.rhat, fewest=rule.window)
    steps = now.count - now.began
    left = (1.0 - rule.cooldown) * horizon.astype(jnp.float32) - now.began.astype(jnp.float32)
    late = steps.astype(jnp.float32) >= jnp.maximum(_SHARE * left, float(rule.window))
    # The first stage begins anywhere, so home moves to where the ELBO is better than in its first block.
    block = lax.dynamic_index_in_dim(now.windows.means, now.windows.full - 1, keepdims=False)
    first = now.stages.ended == 0
    home = pick(better & first & jnp.isfinite(now.losses.best), block, now.home)
    mean = iterates.average(now.windows, verdict.steps)
    square = jnp.sum(jnp.square((mean - now.home) / unit))
    stages, last, rough = history.after(
        now.stages, verdict, square, steps.astype(unit.dtype), now.rate.astype(unit.dtype),
        size=unit.size, shrink=rule.shrink, accuracy=rule.accuracy, free=_FREE * rule.window,
    )  # fmt: skip
    wanted = jnp.where(rough, _ROUGH * rule.accuracy, rule.accuracy)
    # Where it is only the memory that is long, a smaller rate would make it longer.
    tired = late & (verdict.settled | ~(verdict.rhat < rule.rhat))
    ends = ~lost & (verdict.steps > 0) & ((verdict.settled & (verdict.error < wanted)) | tired)
    done = ends & last
    rate = rule.shrink * now.rate
    now = dataclasses.replace(
        now,
        home=home,
        losses=losses,
        verdict=pick(verdict.steps > 0, verdict, now.verdict),
        judged=pick(verdict.steps > 0, now.rate, now.judged),
    )
    back = restarted(now, home, rate, 0.0)
    ahead = restarted(now, mean, pick(done, now.rate, rate), _CARRIED)
    ahead = dataclasses.replace(ahead, stages=stages, done=done)
    # The others begin at an average, which is not what was seen elsewhere: it is looked at anew.
    anew = jnp.where(ends | (lost & ~first), math.inf, losses.best)
    back, ahead = (
        dataclasses.replace(one, losses=dataclasses.replace(losses, best=anew)) for one in (back, ahead)
    )
    flat = pick(lost, home, pick(ends, mean, flat))
    return pick(lost, back, pick(ends, ahead, now)), flat


def restarted(
    now: StagedState, home: Float[Array, " P"], rate: Float[Array, ""], remembered: float
) -> StagedState:
    """A stage that begins at `home`, and remembers so many squared gradients."""
    return dataclasses.replace(
        now,
        began=now.count,
        rate=rate,
        home=home,
        first=jnp.zeros_like(now.first),
        weight=jnp.minimum(now.weight, remembered),
        windows=iterates.begin(home),
    )
