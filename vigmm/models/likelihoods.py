"""Component likelihoods: what a component's density is, given its location, shape and a row's distance.

    log p(x | k) = f(log|W_k|, |W_k (x - mu_k)|^2)

so a likelihood is a function of two numbers, and every covariance structure works with every likelihood.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec
from vigmm.math.linalg import LOG_2PI
from vigmm.models.weights import Gamma

__all__ = ["LIKELIHOODS", "Gaussian", "Likelihood", "StudentT"]


class Likelihood(Protocol):
    """What a row of `LIKELIHOODS` can do. `own` are the likelihood's coordinates of each component."""

    def refusal(self) -> str | None:
        """Why there is no conjugate algebra, or None where there is one."""
        ...

    def position_size(self) -> int:
        """E, coordinates of each component beyond location and shape."""
        ...

    def log_density(
        self, log_det: Float[Array, " K"], square: Float[Array, "B K"], own: Float[Array, "K E"], dim: Any
    ) -> Float[Array, "B K"]:
        """Log density of each row, of `dim` values, under each component."""
        ...

    def log_prior(self, own: Float[Array, "K E"]) -> Float[Array, ""]:
        """Log prior density of the coordinates, Jacobian included."""
        ...

    def start(self, num_components: int, dtype: Any) -> tuple[Float[Array, "K E"], Float[Array, "K E"]]:
        """Where the coordinates start, and their standard deviations."""
        ...

    def stretch(
        self, own: Float[np.ndarray, "n E"], generator: np.random.Generator
    ) -> Float[np.ndarray, " n"]:
        """A random factor for each new row: x = mu + stretch * W^-1 noise."""
        ...


@spec
class Gaussian:
    """Normal components: log|W| - D/2 log 2 pi - square/2."""

    def refusal(self) -> str | None:
        """None: conjugate."""
        return None

    def position_size(self) -> int:
        """None of its own."""
        return 0

    def log_density(
        self, log_det: Float[Array, " K"], square: Float[Array, "B K"], own: Float[Array, "K E"], dim: Any
    ) -> Float[Array, "B K"]:
        """Log density, or expected log density, of each row under each component."""
        log_density: Array = (log_det - 0.5 * dim * LOG_2PI)[None] - 0.5 * square
        return log_density

    def log_prior(self, own: Float[Array, "K E"]) -> Float[Array, ""]:
        """0."""
        return jnp.zeros((), own.dtype)

    def start(self, num_components: int, dtype: Any) -> tuple[Float[Array, "K E"], Float[Array, "K E"]]:
        """Empty."""
        empty = jnp.zeros((num_components, 0), dtype)
        return empty, empty

    def stretch(
        self, own: Float[np.ndarray, "n E"], generator: np.random.Generator
    ) -> Float[np.ndarray, " n"]:
        """1."""
        return np.ones(len(own))


@spec
class StudentT:
    """Student-t components, whose heavy tails make single outliers harmless.

    With nu degrees of freedom: log Gamma((nu + D)/2) - log Gamma(nu/2) - D/2 log(nu pi) + log|W|
    - (nu + D)/2 log(1 + square/nu). The covariance structure's matrix is the *scale* matrix; where nu > 2 the
    covariance is nu/(nu - 2) times it.

    Args:
        dof: nu of every component; ``None`` infers one for each.
        hyper: prior of an inferred nu; by default that of Juarez and Steel (2010), Gamma(2, 0.1).
    """

    dof: float | None = None
    hyper: Gamma = Gamma(shape=2.0, rate=0.1)

    def __post_init__(self) -> None:
        require(self.dof is None or 0 < self.dof < math.inf, "dof", "> 0 and finite", self.dof)

    def refusal(self) -> str | None:
        """The t density is no exponential family."""
        return "Student-t components have no conjugate prior"

    def position_size(self) -> int:
        """Log nu, where it is inferred."""
        return int(self.dof is None)

    def _dof(self, own: Float[Array, "K E"]) -> Float[Array, " K"]:
        if self.dof is None:
            return jnp.exp(own[:, 0])
        return jnp.full((own.shape[0],), self.dof, own.dtype)

    def log_density(
        self, log_det: Float[Array, " K"], square: Float[Array, "B K"], own: Float[Array, "K E"], dim: Any
    ) -> Float[Array, "B K"]:
        """Log density of each row under each component."""
        dof = self._dof(own)
        gammas = gammaln(0.5 * (dof + dim)) - gammaln(0.5 * dof)
        constant = gammas - 0.5 * dim * (jnp.log(dof) + math.log(math.pi)) + log_det
        log_density: Array = constant[None] - (0.5 * (dof + dim))[None] * jnp.log1p(square / dof[None])
        return log_density

    def log_prior(self, own: Float[Array, "K E"]) -> Float[Array, ""]:
        """Nu ~ Gamma: density of log nu."""
        if self.dof is not None:
            return jnp.zeros((), own.dtype)
        a, b = self.hyper.shape, self.hyper.rate
        constant = a * math.log(b) - math.lgamma(a)
        return jnp.sum(constant + a * own - b * jnp.exp(own))

    def start(self, num_components: int, dtype: Any) -> tuple[Float[Array, "K E"], Float[Array, "K E"]]:
        """Nu near 10, within a factor of 1.6."""
        shape = (num_components, self.position_size())
        return jnp.full(shape, math.log(10.0), dtype), jnp.full(shape, 0.5, dtype)

    def stretch(
        self, own: Float[np.ndarray, "n E"], generator: np.random.Generator
    ) -> Float[np.ndarray, " n"]:
        """sqrt(nu / chi^2(nu))."""
        dof = np.exp(own[:, 0]) if self.dof is None else np.full(len(own), self.dof)
        return np.sqrt(dof / generator.chisquare(dof))


LIKELIHOODS: dict[str, type[Likelihood]] = {"gaussian": Gaussian, "student_t": StudentT}
