"""Independent Normal-Gamma distributions of means and precisions, in the forms inference needs.

    lambda_ce ~ Gamma(shape alpha_ce, rate beta_ce)
    mu_kd | lambda ~ Normal(m_kd, 1 / (kappa_k lambda_ce))

C = K or 1 (all components share their precisions), E = D or 1 (all columns share one precision): every
function broadcasts over both, and a precision gathers the evidence of all means that use it. The coordinate
of a precision is log rho = (log lambda)/2, the logarithm of the *root*, as for the whitener of a matrix.

`NormalGammaParams` is the standard form, `Natural` the additive one, about a fixed centre c_k.

References:
    Murphy (2007), Conjugate Bayesian analysis of the Gaussian distribution, section 3.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import polygamma
from jaxtyping import Array, Float, Int

from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.math.gamma import log_gamma
from vigmm.math.linalg import LOG_2PI, einsum
from vigmm.math.special import digamma, gammaln, log_gamma_gap

__all__ = [
    "Natural",
    "NormalGammaParams",
    "entropy",
    "from_natural",
    "gather",
    "kl_parts",
    "log_partition",
    "log_prob",
    "log_root_moments",
    "moved",
    "regroup",
    "sample",
    "share",
    "to_natural",
]


@state
class NormalGammaParams:
    """Standard parameters, prior and posterior alike."""

    loc: Float[Array, "K D"]
    mean_precision: Float[Array, " K"]
    shape: Float[Array, "C E"]
    rate: Float[Array, "C E"]


@state
class Natural:
    """Additive parameters about `centre`, which is carried along and never updated.

    count = kappa, first = kappa (m - c), second = beta + sum kappa (m - c)^2 / 2, shape = alpha.
    """

    count: Float[Array, " K"]
    first: Float[Array, "K D"]
    second: Float[Array, "C E"]
    shape: Float[Array, "C E"]
    centre: Float[Array, "K D"]


def gather(values: Float[Array, "K D"], like: Float[Array, "C E"]) -> Float[Array, "C E"]:
    """Sum over the means that share a precision."""
    for axis in (0, 1):
        if like.shape[axis] != values.shape[axis]:
            values = jnp.sum(values, axis=axis, keepdims=True)
    return values


def share(values: Float[Array, "C E"], like: Float[Array, "K D"]) -> Float[Array, "K D"]:
    """The precision's value for every mean that uses it."""
    return jnp.broadcast_to(values, like.shape)


def to_natural(ng: NormalGammaParams, centre: Float[Array, "K D"]) -> Natural:
    """Additive form about `centre`."""
    offset = ng.loc - centre
    first = ng.mean_precision[:, None] * offset
    return Natural(
        count=ng.mean_precision,
        first=first,
        second=ng.rate + 0.5 * gather(first * offset, ng.rate),
        shape=ng.shape,
        centre=centre,
    )


def from_natural(natural: Natural) -> NormalGammaParams:
    """Standard form."""
    offset = natural.first / natural.count[:, None]
    return NormalGammaParams(
        loc=natural.centre + offset,
        mean_precision=natural.count,
        shape=natural.shape,
        rate=natural.second - 0.5 * gather(natural.first * offset, natural.second),
    )


def moved(stats: Natural, shift: Float[Array, "K D"]) -> Natural:
    """About centres that were shifted: first - n s, and second - first s + n s^2 / 2."""
    change = shift * (0.5 * stats.count[:, None] * shift - stats.first)
    return Natural(
        count=stats.count,
        first=stats.first - stats.count[:, None] * shift,
        second=stats.second + gather(change, stats.second),
        shape=stats.shape,
        centre=stats.centre,
    )


def regroup(stats: Natural, shift: Float[Array, "K D"], group: Int[Array, " K"], num_groups: int) -> Natural:
    """Statistics of groups of components: k joins group[k], its centre moved by shift[k].

    The centres that belong to one group must agree after the shift.
    """
    about = moved(stats, shift)
    join = jax.nn.one_hot(group, num_groups, dtype=shift.dtype, axis=0)
    second, shape = about.second, about.shape
    if second.shape[0] == shift.shape[0]:
        second, shape = einsum("gk,ke->ge", join, second), einsum("gk,ke->ge", join, shape)
    return Natural(
        count=einsum("gk,k->g", join, about.count),
        first=einsum("gk,kd->gd", join, about.first),
        second=second,
        shape=shape,
        centre=jnp.zeros((num_groups, shift.shape[1]), shift.dtype),
    )


def log_partition(natural: Natural) -> Float[Array, ""]:
    """Log of the integral of exp(natural parameters . sufficient statistics) over means and precisions.

    sum_k -D/2 log kappa_k + sum_ce [log Gamma(alpha) - alpha log beta], up to a constant for each mean.
    """
    ng = from_natural(natural)
    gammas = gammaln(ng.shape) - ng.shape * jnp.log(ng.rate)
    return jnp.sum(gammas) - 0.5 * ng.loc.shape[-1] * jnp.sum(jnp.log(ng.mean_precision))


def kl_parts(q: NormalGammaParams, p: NormalGammaParams) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """KL(q || p) of means given precisions, on average, and of precisions; no terms of order N cancel.

    Gamma part, with g = `log_gamma_gap`: g(a) - a0 digamma(a) + log Gamma(a0) + a0 log(b/b0) + a b0/b.
    Normal part: (kappa0/kappa - 1 - log(kappa0/kappa))/2 + kappa0 E[lambda] (m - m0)^2 / 2 for every mean.
    """
    psi = digamma(q.shape)
    gammas = log_gamma_gap(q.shape, psi) - p.shape * psi + gammaln(p.shape)
    rates = p.shape * (jnp.log(q.rate) - jnp.log(p.rate)) + q.shape * p.rate / q.rate
    ratio = (p.mean_precision / q.mean_precision)[:, None]
    shift = p.mean_precision[:, None] * share(q.shape / q.rate, q.loc) * (q.loc - p.loc) ** 2
    # The first summand is the same for all columns; adding the shift gives it its column axis.
    normal = 0.5 * (ratio - 1.0 - jnp.log(ratio)) + 0.5 * shift
    return jnp.sum(normal), jnp.sum(gammas + rates)


def log_prob(
    ng: NormalGammaParams, loc: Float[Array, "K D"], log_root: Float[Array, "C E"]
) -> Float[Array, ""]:
    """Log density of (mu, log rho), Jacobian included; lambda = rho^2, so d lambda = 2 lambda d log rho."""
    gamma = 2.0 * ng.shape * log_root - ng.rate * jnp.exp(2.0 * log_root)
    gamma = gamma + ng.shape * jnp.log(ng.rate) - gammaln(ng.shape) + math.log(2.0)
    kappa = ng.mean_precision[:, None]
    root = share(log_root, loc)
    normal = 0.5 * (jnp.log(kappa) - LOG_2PI) + root - 0.5 * kappa * (jnp.exp(root) * (loc - ng.loc)) ** 2
    return jnp.sum(gamma) + jnp.sum(normal)


def log_root_moments(ng: NormalGammaParams) -> tuple[Float[Array, "C E"], Float[Array, "C E"]]:
    """Exact mean and standard deviation of log rho."""
    mean = 0.5 * (digamma(ng.shape) - jnp.log(ng.rate))
    return mean, 0.5 * jnp.sqrt(polygamma(1, ng.shape))


def entropy(ng: NormalGammaParams) -> Float[Array, ""]:
    """-E[log_prob]: the Gamma's part of E[log_prob] is g(alpha) + log 2, g = `log_gamma_gap`."""
    mean, _ = log_root_moments(ng)
    gamma = log_gamma_gap(ng.shape) + math.log(2.0)
    normal = share(mean, ng.loc) + 0.5 * (jnp.log(ng.mean_precision) - LOG_2PI - 1.0)[:, None]
    return -(jnp.sum(gamma) + jnp.sum(normal))


def sample(ng: NormalGammaParams, key: PRNGKey) -> tuple[Float[Array, "K D"], Float[Array, "C E"]]:
    """One draw of (mu, log rho); differentiable."""
    key_gamma, key_normal = jax.random.split(key)
    log_root = 0.5 * (log_gamma(key_gamma, ng.shape) - jnp.log(ng.rate))
    noise = jax.random.normal(key_normal, ng.loc.shape, ng.loc.dtype)
    sd = jnp.exp(-share(log_root, ng.loc)) / jnp.sqrt(ng.mean_precision)[:, None]
    return ng.loc + sd * noise, log_root
