"""Mixture weights as independent Beta sticks: one algebra for every stick-breaking prior.

Stick j of J = K - 1 takes the share v_j ~ Beta(a_j, b_j) of what sticks 1..j-1 left over, so

    pi_k = v_k prod_{j<k} (1 - v_j),   v_K = 1.                                            (1)

**The last stick is fixed to one**, so the weights sum to one and have exactly K - 1 degrees of
freedom. A Dirichlet(alpha) *is* such a product, with a_j = alpha_j and b_j = sum_{l>j} alpha_l
(Connor and Mosimann 1969), and the Dirichlet process is a_j = 1, b_j = gamma (Sethuraman 1994),
truncated at K (Blei and Jordan 2006). Given expected counts n_k, all of them update alike:

    a_j + n_j,   b_j + sum_{l>j} n_l.                                                      (2)

So a weight prior is one Spec with one method, `prior`, and one row in `WEIGHTS`; expectations,
divergences, densities and draws are shared. All are closed-form: Dirichlet and Beta draws are
never differentiated.

References:
    Connor and Mosimann (1969), JASA 64; Sethuraman (1994), Statistica Sinica 4; Blei and Jordan
    (2006), Bayesian Analysis 1.
"""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec, state
from vigmm.core.typing import PRNGKey
from vigmm.math.special import kl_beta, log_beta, log_gamma_gap

__all__ = [
    "WEIGHTS",
    "Dirichlet",
    "DirichletProcess",
    "Sticks",
    "WeightPrior",
    "entropy",
    "expected_log_weights",
    "expected_weights",
    "gaussian_fit",
    "kl",
    "log_prob",
    "log_weights",
    "sample",
    "update",
    "weight_moments",
]


@state
class Sticks:
    """Beta parameters of the J = K - 1 sticks; a prior and a posterior alike."""

    a: Float[Array, " J"]
    b: Float[Array, " J"]


class WeightPrior(Protocol):
    """Anything that says what the sticks are before data."""

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """Prior Beta parameters for `num_components` components."""
        ...


@spec
class Dirichlet:
    """Finite symmetric Dirichlet: pi ~ Dirichlet(c, ..., c).

    Args:
        concentration: c, per component. Below half the free parameters of a component, components
            that are not needed empty out (Rousseau and Mengersen 2011); ``None`` means 1/K.
    """

    concentration: float | None = None

    def __post_init__(self) -> None:
        value = self.concentration
        require(value is None or (0 < value < math.inf), "concentration", "> 0 and finite", value)

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """a_j = c, b_j = (K - j) c."""
        c = 1.0 / num_components if self.concentration is None else self.concentration
        rest = jnp.arange(num_components - 1, 0, -1, dtype=dtype)
        return Sticks(a=jnp.full_like(rest, c), b=c * rest)


@spec
class DirichletProcess:
    """Stick-breaking Dirichlet process truncated at K, its last stick fixed to one.

    Args:
        concentration: gamma. A priori about gamma log(N / gamma) clusters appear in N rows.
    """

    concentration: float = 1.0

    def __post_init__(self) -> None:
        value = self.concentration
        require(0 < value < math.inf, "concentration", "> 0 and finite", value)

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """a_j = 1, b_j = gamma."""
        ones = jnp.ones((num_components - 1,), dtype)
        return Sticks(a=ones, b=self.concentration * ones)


WEIGHTS: dict[str, type[WeightPrior]] = {"dirichlet": Dirichlet, "dirichlet_process": DirichletProcess}


def update(prior: Sticks, counts: Float[Array, " K"]) -> Sticks:
    """Posterior sticks given expected counts: equation (2)."""
    beyond = jnp.cumsum(counts[::-1])[::-1]
    return Sticks(a=prior.a + counts[:-1], b=prior.b + beyond[1:])


def _break(log_v: Float[Array, " J"], log_rest: Float[Array, " J"]) -> Float[Array, " K"]:
    """Log of equation (1) from log v and log(1 - v), or from their expectations."""
    zero = jnp.zeros((1,), log_v.dtype)
    left = jnp.concatenate([zero, jnp.cumsum(log_rest)])
    return left + jnp.concatenate([log_v, zero])


def log_weights(u: Float[Array, " J"]) -> Float[Array, " K"]:
    """Log pi at unconstrained u = logit v."""
    return _break(jax.nn.log_sigmoid(u), jax.nn.log_sigmoid(-u))


def log_prob(sticks: Sticks, u: Float[Array, " J"]) -> Float[Array, ""]:
    """Log density of u = logit v, Jacobian included: sum_j a log v + b log(1 - v) - log B(a, b)."""
    kernel = sticks.a * jax.nn.log_sigmoid(u) + sticks.b * jax.nn.log_sigmoid(-u)
    return jnp.sum(kernel - log_beta(sticks.a, sticks.b))


def expected_log_weights(sticks: Sticks) -> Float[Array, " K"]:
    """E[log pi_k], in closed form."""
    # One call: every digamma and log-gamma that XLA sees costs compilation time.
    psi_a, psi_b, psi_total = digamma(jnp.stack([sticks.a, sticks.b, sticks.a + sticks.b]))
    return _break(psi_a - psi_total, psi_b - psi_total)


def expected_weights(sticks: Sticks) -> Float[Array, " K"]:
    """E[pi_k]: the product of the sticks' means, since sticks are independent."""
    total = sticks.a + sticks.b
    return jnp.exp(_break(jnp.log(sticks.a) - jnp.log(total), jnp.log(sticks.b) - jnp.log(total)))


def weight_moments(sticks: Sticks) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Mean and standard deviation of each pi_k, in closed form."""
    a, b, total = sticks.a, sticks.b, sticks.a + sticks.b
    # E[v^2]/E[v]^2 = 1 + b/(a (a + b + 1)): relative variances, so that nothing cancels.
    spread = _break(jnp.log1p(b / (a * (total + 1.0))), jnp.log1p(a / (b * (total + 1.0))))
    mean = expected_weights(sticks)
    return mean, mean * jnp.sqrt(jnp.expm1(spread))


def kl(sticks: Sticks, prior: Sticks) -> Float[Array, ""]:
    """KL(q(pi) || p(pi)) in nats."""
    return jnp.sum(kl_beta(sticks.a, sticks.b, prior.a, prior.b))


def entropy(sticks: Sticks) -> Float[Array, ""]:
    """-E[log_prob(u)] over positions u = logit v: sum_j g(a + b) - g(a) - g(b), g = `log_gamma_gap`."""
    a, b, total = log_gamma_gap(jnp.stack([sticks.a, sticks.b, sticks.a + sticks.b]))
    return jnp.sum(total - a - b)


def gaussian_fit(sticks: Sticks) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    """Mean and sd of the Gaussian over u = logit v that is closest, in KL(Gaussian || logit-Beta).

    Stationarity asks for E[v] = a/(a + b) and E[v (1 - v)] (a + b) = 1/sd^2. Solved by sd^2 = 1/a + 1/b and
    mean = log(a/b) - (1/a - 1/b)/2, exactly in the tail of an empty component (v near 0, a small) and to
    second order for large counts. Matching moments instead gives an empty component an sd of 1/a, and with
    it weight that it does not have.
    """
    inverse_a, inverse_b = 1.0 / sticks.a, 1.0 / sticks.b
    mean = jnp.log(sticks.a) - jnp.log(sticks.b) - 0.5 * (inverse_a - inverse_b)
    return mean, jnp.sqrt(inverse_a + inverse_b)


def sample(sticks: Sticks, key: PRNGKey) -> Float[Array, " J"]:
    """One draw of u = logit v, exact down to tiny shapes: log Gamma(a) - log Gamma(b) variates."""
    # One call for both: every call to the generator costs a second of compilation.
    shapes = jnp.stack([sticks.a, sticks.b])
    log_a, log_b = jax.random.loggamma(key, shapes, dtype=shapes.dtype)
    u: Array = log_a - log_b
    return u
