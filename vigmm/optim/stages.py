"""What the averages of iterates at successive rates say about the optimum, and whether another rate pays.

To second order the symmetrised KL of two q is the squared distance of their parameters in units of q's own
scale (`vigmm.optim.windows.units`). The average at rate g_t, known to noise_t, is off the optimum by a bias
of C g_t^kappa in that distance. With s the factor between rates,

    D_t = |average_t - average_t-1|^2 - noise_t - noise_t-1 = C^2 g_t-1^(2 kappa) (1 - s^kappa)^2,    (1)
    B_t = C^2 g_t^(2 kappa) = D_t s^(2 kappa) / (1 - s^kappa)^2,                                      (2)
    gap_t = (B_t + noise_t) / 2                                                                       (3)

nats below the optimum, D_t no less than its standard error; kappa by regression of log D_t on log g_t-1, in
[1/2, 1], and 1 before any data, as for smooth objectives. Another stage, of K_t+1 steps, is not worth its
steps where

    (s^kappa sqrt B_t + sqrt noise_t) / (sqrt B_t + sqrt noise_t) . K_t+1 / (K_t + K_0) > 1           (4)

or where B_t is small beside the noise that is allowed or less than a tenth of a nat, or where D_t is lost in
its standard error. Before that, an average need not be known better than its bias.

References:
    Welandawe, Andersen, Vehtari and Huggins (2022), A framework for improving the reliability of black-box
    variational inference, arXiv:2203.15945; Dieuleveut, Durmus and Bach (2020), Bridging the gap between
    constant step size stochastic gradient descent and Markov chains, for the bias.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.struct import state
from vigmm.optim.windows import Verdict

__all__ = ["Stages", "after", "begin"]

# A bias that is small enough, of the noise that is allowed and in nats; and one that hides the noise.
_SMALL, _NOTHING, _LARGE = 0.5, 0.1, 4.0
# Standard errors of D_t that make it visible, and what they may hide, of the noise that is allowed.
_SIGMAS, _HIDDEN = 2.0, 2.0
# Weight of kappa = 1 against what one halving of the rate says, and of a stage against the one after it.
_PRIOR, _FADE = 0.2, 0.5


@state
class Stages:
    """The stages up to now.

    Args:
        ended: how many, settled or not.
        noise: noise_t of the last of them.
        steps: K_t.
        settled: whether it had settled.
        sums: of 1, x, y, x x and x y for the regression of y = log D_t on x = log g_t-1.
        gap: equation (3); NaN where the last two did not settle.
    """

    ended: Int[Array, ""]
    noise: Float[Array, ""]
    steps: Float[Array, ""]
    settled: Bool[Array, ""]
    sums: Float[Array, "5"]
    gap: Float[Array, ""]


def begin(dtype: Any) -> Stages:
    """Before the first stage."""
    zero = jnp.zeros((), dtype)
    return Stages(
        ended=jnp.zeros((), jnp.int32),
        noise=zero,
        steps=zero,
        settled=jnp.zeros((), jnp.bool_),
        sums=jnp.zeros((5,), dtype),
        gap=zero + math.nan,
    )


def after(
    stages: Stages,
    verdict: Verdict,
    square: Float[Array, ""],
    steps: Float[Array, ""],
    rate: Float[Array, ""],
    *,
    size: int,
    shrink: float,
    accuracy: float,
    free: float,
) -> tuple[Stages, Bool[Array, ""], Bool[Array, ""]]:
    """The stages with one more; whether it is the last; whether its average need not be known better.

    Args:
        stages: those before.
        verdict: of the stage that ended.
        square: squared distance, in units, of its average from that of the stage before.
        steps: K_t.
        rate: g_t.
        size: P.
        shrink: s.
        accuracy: root mean square error that the average of the last stage must have.
        free: K_0.
    """
    known = verdict.settled & stages.settled
    blur = verdict.noise + stages.noise
    moved = jnp.maximum(square - blur, 0.0)
    allowed = size * accuracy**2
    # The sum of P squares has this standard error; one that is lost in it has no logarithm worth fitting.
    error = math.sqrt(2.0 / size) * blur
    seen = known & (moved > _SIGMAS * error)
    x, y = jnp.log(rate / shrink), jnp.log(jnp.where(seen, moved, 1.0))
    new = jnp.stack([jnp.ones_like(y), x, y, x * x, x * y]).astype(stages.sums.dtype)
    sums = jnp.where(seen, _FADE * stages.sums + new, stages.sums)
    kappa = _kappa(sums, math.log(shrink))

    left = shrink**kappa
    bias = jnp.maximum(moved, error) * jnp.square(left / (1.0 - left))
    far, near = jnp.sqrt(bias), jnp.sqrt(verdict.noise)
    growth = jnp.clip(steps / jnp.maximum(stages.steps, 1.0), 1.0, 1.0 / shrink)
    worth = (left * far + near) / (far + near) * growth * steps / (steps + free)
    lost = ~seen & (_SIGMAS * error < _HIDDEN * allowed)
    enough = (worth > 1.0) | (bias < max(_SMALL * allowed, _NOTHING)) | lost
    rough = ~stages.settled | (seen & (bias > _LARGE * verdict.noise))
    made = Stages(
        ended=stages.ended + 1,
        noise=verdict.noise,
        steps=steps,
        settled=verdict.settled,
        sums=sums,
        gap=jnp.where(known, 0.5 * (bias + verdict.noise), math.nan),
    )
    return made, known & (verdict.noise < allowed) & enough, rough


def _kappa(sums: Float[Array, "5"], step: float) -> Float[Array, ""]:
    """Half the slope of the regression, drawn towards 1 and kept in [1/2, 1]."""
    weight, x, y, xx, xy = sums
    many = jnp.maximum(weight, 1.0)
    prior = _PRIOR * step**2
    slope = (xy - x * y / many + 2.0 * prior) / (xx - x * x / many + prior)
    return jnp.clip(0.5 * slope, 0.5, 1.0)
