"""Passes over rows by the kernels of `vigmm.math.fused`: Gaussians with covariance matrices, in float32.

The gradient of a likelihood comes from the moments that are the statistics. With r held fixed,

    dL = d sum_b w_b sum_k r_bk (c_k - |W_k x_b - b_k|^2 / 2)                                             (1)

and with the moments about m_k, e_k = W_k m_k - b_k and r_k the sums of w_b r_bk (x_b - m_k),

    sum_b w_b r_bk |W_k x_b - b_k|^2 = tr(W_k S_k W_k^T) + 2 (W_k r_k)^T e_k + n_k |e_k|^2                (2)

in which m_k is where the component is, so that nothing large cancels.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.axes import sum_of_shares
from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.math import fused
from vigmm.math.fused import Forms, Sums
from vigmm.math.linalg import einsum
from vigmm.models.covariance import Triangular
from vigmm.models.mixture import Components, Mixture

__all__ = ["gather", "log_lik"]


def gather(
    model: Mixture, theta: Components, batch: Batch, centre: Float[Array, "K D"]
) -> tuple[Float[Array, ""], Any]:
    """What `vigmm.models.passes.gather` gives.

    Raises:
        SpecError: for rows that the kernels are not made for.
    """
    many = jax.tree.map(lambda leaf: leaf[None], theta)
    value, sums = _sums(model, many, centre[None], batch)
    structure = cast(Triangular, model.structure)
    return value[0], structure.gathered(sums.count[0], sums.first[0], sums.second[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_lik(model: Mixture, theta: Components, batch: Batch) -> Float[Array, " S"]:
    """What `vigmm.models.passes.log_lik` gives; where no gradient is asked for, of the log norms alone.

    Raises:
        SpecError: for rows that the kernels are not made for.
    """
    log_norm = fused.log_norms(_forms(model, theta, batch), batch.x)
    found: Array = sum_of_shares(jnp.sum(batch.weight[None] * log_norm, axis=1))
    return found


def _fwd(model: Mixture, theta: Components, batch: Batch) -> tuple[Float[Array, " S"], Any]:
    value, sums = _sums(model, theta, theta.parts.loc, batch)
    return value, (sums, theta, batch)


def _bwd(model: Mixture, residuals: Any, cotangent: Float[Array, " S"]) -> tuple[Any, Any]:
    sums, theta, batch = residuals
    _, back = jax.vjp(lambda moving: _expected(model, moving, theta.parts.loc, sums), theta)
    (gradient,) = back(cotangent)
    # Rows are data: nobody differentiates with respect to them.
    return gradient, jax.tree.map(jnp.zeros_like, batch)


log_lik.defvjp(_fwd, _bwd)


def _expected(model: Mixture, theta: Components, centre: Float[Array, "S K D"], sums: Sums) -> Array:
    """The sum of equation (1) for each draw, in the form (2)."""
    level = _level(model, theta)
    whitener = jnp.broadcast_to(theta.parts.whitener, (*level.shape, *theta.parts.whitener.shape[-2:]))
    bias = einsum("skij,skj->ski", whitener, centre) - theta.parts.offset
    spread = jnp.sum(einsum("skij,skjl->skil", whitener, sums.second) * whitener, axis=(-2, -1))
    cross = jnp.sum(einsum("skij,skj->ski", whitener, sums.first) * bias, axis=-1)
    square = spread + 2.0 * cross + sums.count * jnp.sum(bias**2, axis=-1)
    return jnp.sum(sums.count * level - 0.5 * square, axis=-1)


def _sums(
    model: Mixture, theta: Components, centre: Float[Array, "S K D"], batch: Batch
) -> tuple[Float[Array, " S"], Sums]:
    """Value and moments about `centre`, of the rows of all devices."""
    log_norm, sums = fused.sums(_forms(model, theta, batch), centre, batch)
    return sum_of_shares((jnp.sum(batch.weight[None] * log_norm, axis=1), sums))


def _forms(model: Mixture, theta: Components, batch: Batch) -> Forms:
    dim, dtype = batch.x.shape[1], batch.x.dtype
    if dtype != jnp.float32:
        raise SpecError("kernel", f"'xla' for rows of {dtype}", "pallas")
    if dim > fused.MOST_COLUMNS:
        raise SpecError("kernel", f"'xla' for more than {fused.MOST_COLUMNS} columns", "pallas")
    if jax.default_backend() == "tpu":
        raise SpecError("kernel", "'xla' on a TPU", "pallas")
    parts = theta.parts
    return Forms(level=_level(model, theta), whitener=parts.whitener, offset=parts.offset)


def _level(model: Mixture, theta: Components) -> Float[Array, "S K"]:
    """Log joint densities where the square is zero."""
    dim = theta.parts.loc.shape[-1]

    def one(theta: Components) -> Float[Array, " K"]:
        log_det = theta.parts.log_det
        nothing = jnp.zeros_like(log_det)[None]
        return theta.log_weights + model.likelihood.log_density(log_det, nothing, theta.own, dim)[0]

    return jax.vmap(one)(theta)
