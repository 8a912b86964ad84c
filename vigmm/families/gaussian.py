"""Block-diagonal Gaussians over positions: the algebra that mean field, blocks and full rank share.

A block of M coordinates has u = loc + s * (I + C) noise, with s = exp(log_scale) elementwise and C strictly
lower triangular: its covariance has the Cholesky factor L = diag(s)(I + C). C is free of units, so one step
size suits all of it, and log q = -|noise|^2/2 - sum(log_scale) - M/2 log 2 pi does not depend on it.

**Natural gradients.** Moving by (L delta, L A), A lower triangular, the Fisher matrix at A = 0 is 1 for
delta, 1 for the entries of A below the diagonal and 2 for those on it. So with g the gradient in loc and
G_A = tril(L^T G_L): d loc = L L^T g, and dL = L (stril(G_A) + diag(G_A)/2).

References:
    Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), JMLR 18, for full-rank Gaussians; Salimbeni,
    Eleftheriadis and Hensman (2018), AISTATS, for natural gradients in the Cholesky factor.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from vigmm.math.linalg import LOG_2PI, einsum

__all__ = ["entropy", "log_density", "natural", "packed_size", "push", "solve", "unpack"]


def packed_size(size: int) -> int:
    """Entries below the diagonal."""
    return size * (size - 1) // 2


def unpack(packed: Float[Array, "*n Q"], size: int) -> Float[Array, "*n M M"]:
    """C from its entries below the diagonal, row by row."""
    rows, columns = np.tril_indices(size, -1)
    flat = jnp.zeros((*packed.shape[:-1], size * size), packed.dtype)
    target = flat.at[..., rows * size + columns]
    flat = target.set(packed, unique_indices=True, mode="promise_in_bounds")
    return flat.reshape(*packed.shape[:-1], size, size)


def _pack(matrix: Float[Array, "*n M M"]) -> Float[Array, "*n Q"]:
    rows, columns = np.tril_indices(matrix.shape[-1], -1)
    packed: Array = matrix[..., rows, columns]
    return packed


def push(
    loc: Float[Array, "*n M"],
    log_scale: Float[Array, "*n M"],
    packed: Float[Array, "*n Q"],
    noise: Float[Array, "*n M"],
) -> Float[Array, "*n M"]:
    """Loc + s * (I + C) noise."""
    below = einsum("...ij,...j->...i", unpack(packed, loc.shape[-1]), noise)
    return loc + jnp.exp(log_scale) * (noise + below)


def solve(
    loc: Float[Array, "*n M"],
    log_scale: Float[Array, "*n M"],
    packed: Float[Array, "*n Q"],
    u: Float[Array, "*n M"],
) -> Float[Array, "*n M"]:
    """The noise that `push` makes u of."""
    from jax.lax.linalg import triangular_solve

    size = loc.shape[-1]
    below = unpack(packed, size)
    factor = below + jnp.broadcast_to(jnp.eye(size, dtype=loc.dtype), below.shape)
    z = ((u - loc) * jnp.exp(-log_scale))[..., None]
    noise: Array = triangular_solve(factor, z, left_side=True, lower=True, unit_diagonal=True)[..., 0]
    return noise


def log_density(log_scale: Float[Array, "*n M"], noise: Float[Array, "*n M"]) -> Float[Array, ""]:
    """-|noise|^2/2 - sum(log_scale) - M/2 log 2 pi, over all blocks."""
    return jnp.sum(-0.5 * (noise**2 + LOG_2PI) - log_scale)


def entropy(log_scale: Float[Array, "*n M"]) -> Float[Array, ""]:
    """sum(log_scale) + M/2 (1 + log 2 pi), over all blocks."""
    return jnp.sum(log_scale + 0.5 * (1.0 + LOG_2PI))


def natural(
    log_scale: Float[Array, "*n M"],
    packed: Float[Array, "*n Q"],
    grads: tuple[Float[Array, "*n M"], Float[Array, "*n M"], Float[Array, "*n Q"]],
) -> tuple[Float[Array, "*n M"], Float[Array, "*n M"], Float[Array, "*n Q"]]:
    """Natural gradients of (loc, log_scale, C) from plain ones, as above.

    In units of s: with R = I + C and H = G_C below the diagonal and g_s - rowsum(G_C * C) on it, tril(L^T
    G_L) is tril(R^T H); then d log s = diag(A) and dC = stril(R A) - diag(A) C.
    """
    loc_grad, scale_grad, packed_grad = grads
    size = log_scale.shape[-1]
    below, below_grad = unpack(packed, size), unpack(packed_grad, size)
    eye = jnp.broadcast_to(jnp.eye(size, dtype=log_scale.dtype), below.shape)
    factor = below + eye
    diagonal = scale_grad - jnp.sum(below_grad * below, axis=-1)
    inner = jnp.tril(einsum("...ji,...jk->...ik", factor, below_grad + diagonal[..., None] * eye))
    step = inner * (1.0 - 0.5 * eye)
    on = jnp.diagonal(step, axis1=-2, axis2=-1)
    move = einsum("...ij,...jk->...ik", factor, step) - on[..., None] * below
    scale = jnp.exp(log_scale)
    white = einsum("...ji,...j->...i", factor, scale * loc_grad)
    return scale * einsum("...ij,...j->...i", factor, white), on, _pack(move)
