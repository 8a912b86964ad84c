"""Dense linear algebra with explicit matrix precision.

A covariance is always carried as its *whitener* W, the lower-triangular matrix with
precision = W^T W: the Mahalanobis term |W x - W loc|^2 is then one matrix product, and no
triangular solve ever touches rows of data.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["LOG_2PI", "cholesky", "einsum", "log_diag_sum", "outer", "symmetric", "tril_inverse"]

LOG_2PI = math.log(2.0 * math.pi)

# GPUs default to TF32 (10 bits of mantissa), which destroys Mahalanobis distances.
_PRECISION = lax.Precision.HIGHEST


def einsum(subscripts: str, *operands: Array) -> Array:
    """`jnp.einsum` at full precision of the operands' dtype on every backend."""
    return jnp.einsum(subscripts, *operands, precision=_PRECISION)


def cholesky(matrix: Float[Array, "*K D D"]) -> Float[Array, "*K D D"]:
    """Lower Cholesky factor; NaN where `matrix` is not positive definite (the caller must check)."""
    factor: Array = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    return factor


@jax.custom_jvp
def symmetric(matrix: Float[Array, "*K D D"]) -> Float[Array, "*K D D"]:
    """A matrix that is symmetric and whose gradient is to be: the same, to the last bit.

    A factorisation reads one triangle, and the gradient through it need not be symmetric: a step along it
    would leave the symmetric matrices.
    """
    return matrix


@symmetric.defjvp
def _symmetric_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    tangent = tangents[0]
    return primals[0], 0.5 * (tangent + jnp.swapaxes(tangent, -1, -2))


def tril_inverse(factor: Float[Array, "*K D D"]) -> Float[Array, "*K D D"]:
    """Inverse of a lower-triangular matrix: one solve against the identity, K x D^3 and no rows."""
    eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    inverse: Array = jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)
    return inverse


def log_diag_sum(factor: Float[Array, "*K D D"]) -> Float[Array, "*K"]:
    """Sum of the logarithms of the diagonal: the log determinant of a triangular matrix."""
    return jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def outer(vector: Float[Array, "*K D"]) -> Float[Array, "*K D D"]:
    """V v^T along the last axis."""
    return vector[..., :, None] * vector[..., None, :]
