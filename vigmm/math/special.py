"""Gamma-function combinations that keep their digits in float32.

A Kullback-Leibler divergence between two posteriors with pseudo-counts of 1e6 is a difference of
terms of 1e7 nats: float32 would leave errors of whole nats. The large parts cancel on paper, so
they are cancelled on paper, and what is left is of the order of log(count).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy import special
from jaxtyping import Array, Float

from vigmm.core.effort import once
from vigmm.math.linalg import LOG_2PI

__all__ = [
    "digamma",
    "gammaln",
    "kl_beta",
    "log_beta",
    "log_gamma_gap",
    "log_gamma_ratio",
    "log_half_step",
    "trigamma_gap",
]


def digamma(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Psi(x), whose hundred operations are compiled once and not where it is read."""
    return once(special.digamma(x))


def gammaln(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Log Gamma(x), likewise."""
    return once(special.gammaln(x))


def _asymptotic_from(x: Float[Array, "*any"]) -> float:
    """Where the series of `log_gamma_gap` is exact to 1 ulp of the dtype and the direct form still good."""
    return 32.0 if x.dtype == jnp.float64 else 8.0


def log_gamma_gap(x: Float[Array, "*any"], psi: Float[Array, "*any"] | None = None) -> Float[Array, "*any"]:
    """X digamma(x) - log Gamma(x) - x, which grows only as (log x)/2, for x > 0.

    For large x, from the Stirling series (Abramowitz and Stegun 6.1.40, 6.3.18):
    (log x)/2 - (1 + log 2 pi)/2 - 1/(6x) + 1/(90x^3) - 1/(210x^5) + 1/(210x^7) - 5/(594x^9).

    Args:
        x: where.
        psi: `digamma` of x, for who has it.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(log_gamma_gap(jnp.float32(1e6))), 4)   # the naive form is off by nats
        5.4888
    """
    limit = _asymptotic_from(x)
    small = jnp.where(x > limit, limit, x)
    psi = digamma(small) if psi is None else jnp.where(x > limit, 1.0, psi)  # any number that is finite
    direct = small * psi - gammaln(small) - small
    inv = 1.0 / jnp.where(x > limit, x, limit)
    sq = inv * inv
    series = inv * (-1 / 6 + sq * (1 / 90 + sq * (-1 / 210 + sq * (1 / 210 - sq * (5 / 594)))))
    asymptotic = -0.5 * jnp.log(inv) - 0.5 * (1.0 + LOG_2PI) + series
    return once(jnp.where(x > limit, asymptotic, direct))


def log_half_step(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The half step log Gamma(x + 1/2) - log Gamma(x) - log(x)/2, which goes to zero as -1/(8x), for x > 0.

    For large x: -1/(8x) + 1/(192x^3) - 1/(640x^5) + 17/(14336x^7), from the Stirling series of both; small x
    is carried there by Gamma(x + 1) = x Gamma(x), one log1p at a time, so that relative precision is kept.
    """
    shift = 32 if x.dtype == jnp.float64 else 4
    near = x < shift
    far = jnp.where(near, x + shift, x)
    inv = 1.0 / far
    sq = inv * inv
    series = inv * (-1 / 8 + sq * (1 / 192 + sq * (-1 / 640 + sq * (17 / 14336))))
    small = jnp.where(near, x, jnp.full_like(x, shift))
    between = jnp.arange(shift, dtype=x.dtype).reshape(-1, *([1] * x.ndim))
    steps = jnp.sum(jnp.log1p(0.5 / (small[None] + between)), axis=0)
    carried = series + 0.5 * jnp.log1p(shift / small) - steps
    step: Array = jnp.where(near, carried, series)
    return step


def trigamma_gap(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Psi'(x) - 1/x, which goes to zero as 1/(2x^2), for x > 0.

    The terms of g(x) = 1/(x^2 (x + 1)) + g(x + 1) are all positive, so that relative precision is kept; then
    1/(2x^2) + 1/(6x^3) - 1/(30x^5) + 1/(42x^7) - 1/(30x^9) (Abramowitz and Stegun 6.4.12).

    Example:
        >>> import jax.numpy as jnp
        >>> f"{trigamma_gap(jnp.float32(1e6)):.3g}"
        '5e-13'
    """
    shift = 32 if x.dtype == jnp.float64 else 8
    near = x[None] + jnp.arange(shift, dtype=x.dtype).reshape(-1, *([1] * x.ndim))
    inv = 1.0 / (x + shift)
    sq = inv * inv
    series = sq * (0.5 + inv * (1 / 6 + sq * (-1 / 30 + sq * (1 / 42 - sq / 30))))
    gap: Array = series + jnp.sum(1.0 / (near * near * (near + 1.0)), axis=0)
    return gap


def log_gamma_ratio(x: Float[Array, "*any"], dim: int) -> Float[Array, "*any"]:
    """The ratio log Gamma(x + dim/2) - log Gamma(x): logarithms and a half step, nothing cancels.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(log_gamma_ratio(jnp.float32(5e5), 2)), 4)   # log 5e5
        13.1224
    """
    total = jnp.zeros_like(x)
    for i in range(dim // 2):
        total = total + jnp.log(x + i)
    if dim % 2:
        last = x + dim // 2
        total = total + 0.5 * jnp.log(last) + log_half_step(last)
    return total


def log_beta(a: Float[Array, "*any"], b: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b)."""
    first, second, total = gammaln(jnp.stack([a, b, a + b]))
    log: Array = first + second - total
    return log


def kl_beta(
    a: Float[Array, "*any"],
    b: Float[Array, "*any"],
    prior_a: Float[Array, "*any"],
    prior_b: Float[Array, "*any"],
) -> Float[Array, "*any"]:
    """KL(Beta(a, b) || Beta(prior_a, prior_b)) in nats, elementwise, without large cancellations.

    With g = `log_gamma_gap`: KL = log B(a0, b0) + g(a) + g(b) - g(a + b) - a0 digamma(a)
    - b0 digamma(b) + (a0 + b0) digamma(a + b).
    """
    # Stacked, because every digamma and log-gamma that XLA sees costs compilation time.
    shapes = jnp.stack([a, b, a + b])
    psi = digamma(shapes)
    gap_a, gap_b, gap_total = log_gamma_gap(shapes, psi)
    psi_a, psi_b, psi_total = psi
    cross = prior_a * (psi_total - psi_a) + prior_b * (psi_total - psi_b)
    divergence: Array = log_beta(prior_a, prior_b) + gap_a + gap_b - gap_total + cross
    return divergence
