"""Logarithms of Gamma draws with exact implicit derivatives, at every shape.

A draw g at a fixed quantile moves with its shape a as F(g; a) stays where it is, so

    d log g / da = -(dF/da) / (g f(g; a))                                                  (1)

(Figurnov, Mohamed and Mnih 2018). JAX knows (1) for g itself. That is no use for tiny shapes, where g is zero
and its logarithm is not (at shape 0.01 the mean derivative comes out half as large as it is, in float32), nor
for large ones, where it loses more digits than the spread of the draws has. There the two ends of (1) take
over: with psi the digamma function and r = log(g/a),

    (psi(a + 1) - log g) / a              for small g: F = g^a / Gamma(a + 1),             (2)
    (r / (exp(r) - 1) + 1 / (6a)) / a     for large a: Temme's uniform expansion.          (3)

References:
    Figurnov, Mohamed and Mnih (2018), Implicit reparameterization gradients, NeurIPS 31; Temme (1979), The
    asymptotic expansion of the incomplete gamma functions, SIAM Journal on Mathematical Analysis 10.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import digamma
from jaxtyping import Array, Float

from vigmm.core.typing import PRNGKey
from vigmm.math.special import trigamma_gap

__all__ = ["log_gamma", "natural_gradient", "slope"]

# exp(-36) is less than half an ulp of float64: the next term of the series that (2) begins is lost.
_SMALL = -36.0


def _large(dtype: Any) -> float:
    """Where (3) is more accurate than the digits that the direct form keeps."""
    return 1e5 if dtype == jnp.float64 else 3e2


def slope(shape: Float[Array, "*any"], log_draw: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Equation (1): how the logarithm of a draw moves with the shape.

    Args:
        shape: a > 0.
        log_draw: logarithm of a draw of that shape.
    """
    small, large = log_draw < _SMALL, shape > _large(shape.dtype)
    tail = (digamma(shape + 1.0) - log_draw) / shape
    gap = log_draw - jnp.log(shape)
    # r / (exp(r) - 1) is one where r is zero.
    ratio = jnp.where(gap == 0.0, 1.0, gap / jnp.expm1(jnp.where(gap == 0.0, 1.0, gap)))
    far = (ratio + 1.0 / (6.0 * shape)) / shape
    draw = jnp.exp(jnp.where(small | large, 0.0, log_draw))
    middle: Array = lax.random_gamma_grad(jnp.where(small | large, 1.0, shape), draw) / draw
    return jnp.where(small, tail, jnp.where(large, far, middle))


@jax.custom_jvp
def _moves(shape: Float[Array, "*any"], log_draw: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The draw, which moves with its shape by equation (1)."""
    return log_draw


@_moves.defjvp
def _moves_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    shape, log_draw = primals
    return log_draw, slope(shape, log_draw) * tangents[0]


def log_gamma(key: PRNGKey, shape: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Logarithms of independent draws of Gamma(shape, 1), differentiable in the shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mean = lambda a: log_gamma(jax.random.key(0), jnp.full((9999,), a)).mean()
        >>> round(float(jax.grad(mean)(2.0)), 1)   # the mean of log g is psi(a): its derivative at 2 is 0.645
        0.6
    """
    if shape.size == 0:  # compiled all the same, for seconds
        return shape
    draws: Array = jax.random.loggamma(key, lax.stop_gradient(shape), dtype=shape.dtype)
    return _moves(shape, draws)


def natural_gradient(
    shape: Float[Array, "*any"],
    rate: Float[Array, "*any"],
    shape_grad: Float[Array, "*any"],
    rate_grad: Float[Array, "*any"],
) -> tuple[Float[Array, "*any"], Float[Array, "*any"]]:
    """The inverse Fisher information [[psi'(a), -1/b], [-1/b, a/b^2]] of Gamma(a, b) times a gradient."""
    first = (shape_grad + rate * rate_grad / shape) / trigamma_gap(shape)
    return first, rate * (rate * rate_grad + first) / shape
