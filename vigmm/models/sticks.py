"""Mixture weights as independent Beta sticks: one algebra for every stick-breaking prior.

Stick j of J = K - 1 takes the share v_j ~ Beta(a_j, b_j) of what sticks 1..j-1 left over, so

    pi_k = v_k prod_{j<k} (1 - v_j),   v_K = 1.                                            (1)

**The last stick is fixed to one**, so the weights sum to one and have exactly K - 1 degrees of
freedom. A Dirichlet(alpha) *is* such a product, with a_j = alpha_j and b_j = sum_{l>j} alpha_l
(Connor and Mosimann 1969), and the Dirichlet process is a_j = 1, b_j = gamma (Sethuraman 1994),
truncated at K (Blei and Jordan 2006). Given expected counts n_k, all of them update alike:

    a_j + n_j,   b_j + sum_{l>j} n_l.                                                      (2)

So a weight prior is one Spec and one row in `WEIGHTS`; expectations, divergences, densities and draws are
shared. All are closed-form, and draws may be differentiated (`vigmm.math.gamma`).

**The concentration may be inferred.** With gamma ~ Gamma(shape, rate) the sticks' parameters are affine in
it,

    v_j | gamma ~ Beta(a_j + gamma a'_j, b_j + gamma b'_j),                                 (3)

and log gamma is one more coordinate. For a Dirichlet process (a' = 0, b = 0) the pair stays conjugate given
the sticks: q(gamma) = Gamma(shape + J, rate - sum_j E[log(1 - v_j)]) (Escobar and West 1995; Blei and Jordan
2006).

**Truncation.** By default stick K is one: what the truncation cuts off goes to the last component. The other
convention leaves it free: J = K sticks, and the mass beyond the truncation is lost to the model.

References:
    Connor and Mosimann (1969), JASA 64; Sethuraman (1994), Statistica Sinica 4; Escobar and West (1995), JASA
    90; Pitman and Yor (1997), Annals of Probability 25; Blei and Jordan (2006), Bayesian Analysis 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.struct import state
from vigmm.core.typing import PRNGKey
from vigmm.math.gamma import log_gamma
from vigmm.math.gamma import natural_gradient as gamma_natural_gradient
from vigmm.math.linalg import einsum
from vigmm.math.special import digamma, gammaln, kl_beta, log_beta, log_gamma_gap, trigamma_gap

__all__ = [
    "Sticks",
    "entropy",
    "expected_concentration",
    "expected_log_weights",
    "expected_weights",
    "gaussian_fit",
    "kl",
    "log_prob",
    "log_weights",
    "natural_gradient",
    "sample",
    "update",
    "weight_moments",
]


@state
class Sticks:
    """Beta parameters of the J sticks, Gamma parameters of the concentration; prior and posterior alike.

    H is 1 where the concentration is inferred, else 0 and the last four fields are empty. A posterior has
    slopes of zero: under q sticks and concentration are independent.
    """

    a: Float[Array, " J"]
    b: Float[Array, " J"]
    a_slope: Float[Array, "H J"]
    b_slope: Float[Array, "H J"]
    shape: Float[Array, " H"]
    rate: Float[Array, " H"]


def update(prior: Sticks, counts: Float[Array, " K"], q: Sticks | None = None) -> Sticks:
    """Where a coordinate step goes, given expected counts: equation (2), and q(gamma) as above.

    Args:
        prior: prior sticks.
        counts: expected rows of each component.
        q: the current posterior. Its sticks decide q(gamma), whose mean the sticks' target then uses: with
            both from the old values a full step could lower the bound. ``None`` takes the prior of gamma.
    """
    beyond = jnp.cumsum(counts[::-1])[::-1]
    size = prior.a.shape[0]
    # With a free last stick nothing lies beyond it.
    rest = jnp.concatenate([beyond[1:], jnp.zeros((1,), counts.dtype)])[:size]
    shape, rate = prior.shape, prior.rate
    if q is not None:
        shape = shape + size
        rate = rate - einsum("hj,j->h", prior.b_slope, digamma(q.b) - digamma(q.a + q.b))
    return Sticks(
        a=prior.a + counts[:size],
        b=prior.b + einsum("hj,h->j", prior.b_slope, shape / rate) + rest,
        a_slope=jnp.zeros_like(prior.a_slope),
        b_slope=jnp.zeros_like(prior.b_slope),
        shape=shape,
        rate=rate,
    )


def expected_concentration(sticks: Sticks) -> Float[Array, " H"]:
    """E[gamma], empty where it is known."""
    return sticks.shape / sticks.rate


def _break(
    log_v: Float[Array, " J"], log_rest: Float[Array, " J"], num_components: int
) -> Float[Array, " K"]:
    """Log of equation (1) from log v and log(1 - v), or from their expectations."""
    zero = jnp.zeros((1,), log_v.dtype)
    left = jnp.concatenate([zero, jnp.cumsum(log_rest)])[:num_components]
    return left + jnp.concatenate([log_v, zero])[:num_components]


def log_weights(u: Float[Array, " JH"], num_components: int, num_sticks: int) -> Float[Array, " K"]:
    """Log pi at unconstrained u = (logit v, log gamma)."""
    u = u[:num_sticks]
    return _break(jax.nn.log_sigmoid(u), jax.nn.log_sigmoid(-u), num_components)


def log_prob(sticks: Sticks, u: Float[Array, " JH"]) -> Float[Array, ""]:
    """Log density of u = (logit v, log gamma), Jacobian included.

    sum_j a log v + b log(1 - v) - log B(a, b), and shape log(rate gamma) - rate gamma - log Gamma(shape).
    """
    size = sticks.a.shape[0]
    u, log_gamma = u[:size], u[size:]
    gamma = jnp.exp(log_gamma)
    a = sticks.a + einsum("hj,h->j", sticks.a_slope, gamma)
    b = sticks.b + einsum("hj,h->j", sticks.b_slope, gamma)
    kernel = a * jax.nn.log_sigmoid(u) + b * jax.nn.log_sigmoid(-u)
    hyper = sticks.shape * (jnp.log(sticks.rate) + log_gamma) - sticks.rate * gamma - gammaln(sticks.shape)
    return jnp.sum(kernel - log_beta(a, b)) + jnp.sum(hyper)


def expected_log_weights(sticks: Sticks, num_components: int) -> Float[Array, " K"]:
    """E[log pi_k], in closed form."""
    # One call: every digamma and log-gamma that XLA sees costs compilation time.
    psi_a, psi_b, psi_total = digamma(jnp.stack([sticks.a, sticks.b, sticks.a + sticks.b]))
    return _break(psi_a - psi_total, psi_b - psi_total, num_components)


def expected_weights(sticks: Sticks, num_components: int) -> Float[Array, " K"]:
    """E[pi_k]: the product of the sticks' means, since sticks are independent."""
    log_total = jnp.log(sticks.a + sticks.b)
    return jnp.exp(_break(jnp.log(sticks.a) - log_total, jnp.log(sticks.b) - log_total, num_components))


def weight_moments(sticks: Sticks, num_components: int) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Mean and standard deviation of each pi_k, in closed form."""
    a, b, total = sticks.a, sticks.b, sticks.a + sticks.b
    # E[v^2]/E[v]^2 = 1 + b/(a (a + b + 1)): relative variances, so that nothing cancels.
    relative = jnp.log1p(b / (a * (total + 1.0))), jnp.log1p(a / (b * (total + 1.0)))
    spread = _break(*relative, num_components)
    mean = expected_weights(sticks, num_components)
    return mean, mean * jnp.sqrt(jnp.expm1(spread))


def kl(sticks: Sticks, prior: Sticks) -> Float[Array, ""]:
    """KL(q || p) of sticks and concentration in nats; the prior is a fixed one, or a Dirichlet process.

    E over gamma of KL(Beta(a, b) || Beta(1, gamma)) is the divergence at E[gamma] plus log E[gamma]
    - E[log gamma]; and KL(Gamma || Gamma) = g(s) - s0 digamma(s) + log Gamma(s0) + s0 log(r/r0) + s r0/r,
    with g = `log_gamma_gap`.
    """
    mean = expected_concentration(sticks)
    b = prior.b + einsum("hj,h->j", prior.b_slope, mean)
    divergence = jnp.sum(kl_beta(sticks.a, sticks.b, prior.a, b))
    psi = digamma(sticks.shape)
    jensen = jnp.sum(prior.b_slope) * jnp.sum(jnp.log(sticks.shape) - psi)
    gammas = log_gamma_gap(sticks.shape, psi) - prior.shape * psi + gammaln(prior.shape)
    rates = prior.shape * (jnp.log(sticks.rate) - jnp.log(prior.rate)) + mean * prior.rate
    return divergence + jensen + jnp.sum(gammas + rates)


def entropy(sticks: Sticks) -> Float[Array, ""]:
    """-E[log_prob(u)] over positions, for a posterior.

    With g = `log_gamma_gap`: sum_j g(a + b) - g(a) - g(b) for logit v, and -g(shape) for log gamma.
    """
    a, b, total = log_gamma_gap(jnp.stack([sticks.a, sticks.b, sticks.a + sticks.b]))
    return jnp.sum(total - a - b) - jnp.sum(log_gamma_gap(sticks.shape))


def gaussian_fit(sticks: Sticks) -> tuple[Float[Array, " JH"], Float[Array, " JH"]]:
    """Mean and sd of the Gaussian over u that is closest, in KL(Gaussian || posterior).

    For u = logit v stationarity asks for E[v] = a/(a + b) and E[v (1 - v)] (a + b) = 1/sd^2. Solved by
    sd^2 = 1/a + 1/b and mean = log(a/b) - (1/a - 1/b)/2, exactly in the tail of an empty component (v near
    0, a small) and to second order for large counts. Matching moments instead gives an empty component an
    sd of 1/a, and with it weight that it does not have. For log gamma: sd^2 = 1/shape and E[gamma] =
    shape/rate, exactly.
    """
    inverse_a, inverse_b = 1.0 / sticks.a, 1.0 / sticks.b
    mean = jnp.log(sticks.a) - jnp.log(sticks.b) - 0.5 * (inverse_a - inverse_b)
    log_gamma = jnp.log(sticks.shape) - jnp.log(sticks.rate) - 0.5 / sticks.shape
    sd = jnp.sqrt(inverse_a + inverse_b)
    return jnp.concatenate([mean, log_gamma]), jnp.concatenate([sd, 1.0 / jnp.sqrt(sticks.shape)])


def sample(sticks: Sticks, key: PRNGKey) -> Float[Array, " JH"]:
    """One draw of u = (logit v, log gamma) from a posterior, exact down to tiny shapes, and its derivatives.

    logit v is the difference of two log-Gamma variates.
    """
    size = sticks.a.shape[0]
    # One call for all: every call to the generator costs a second of compilation.
    shapes = jnp.concatenate([sticks.a, sticks.b, sticks.shape])
    log_gammas = log_gamma(key, shapes)
    u: Array = log_gammas[:size] - log_gammas[size : 2 * size]
    return jnp.concatenate([u, log_gammas[2 * size :] - jnp.log(sticks.rate)])


def natural_gradient(q: Sticks, grads: Sticks) -> Sticks:
    """The inverse Fisher information of a posterior times a gradient in its parameters.

    The Fisher matrix of a stick is [[psi'(a) - psi'(s), -psi'(s)], [-psi'(s), psi'(b) - psi'(s)]], s = a + b.
    With psi'(x) = 1/x + g(x), g = `trigamma_gap`, what is large in its determinant cancels on paper.
    """
    a, b, total = q.a, q.b, q.a + q.b
    gap_a, gap_b, gap = trigamma_gap(jnp.stack([a, b, total]))
    own_a = b / (a * total) + gap_a - gap
    own_b = a / (b * total) + gap_b - gap
    cross = 1.0 / total + gap
    determinant = gap_a * (a / (b * total)) + gap_b * (b / (a * total)) + gap_a * gap_b
    determinant = determinant - gap * (total / (a * b) + gap_a + gap_b)
    shape, rate = gamma_natural_gradient(q.shape, q.rate, grads.shape, grads.rate)
    return Sticks(
        a=(own_b * grads.a + cross * grads.b) / determinant,
        b=(cross * grads.a + own_a * grads.b) / determinant,
        a_slope=jnp.zeros_like(q.a_slope),
        b_slope=jnp.zeros_like(q.b_slope),
        shape=shape,
        rate=rate,
    )
